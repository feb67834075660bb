//! A CURVE key for a measurement.

use std::fs::File;
use std::io::Read;

use zafka_zmtp::curve::{KeyPair, SecretKey};

/// Fills bytes with the system's random ones.
#[allow(clippy::expect_used, reason = "without randomness nothing can be measured")]
pub fn random(bytes: &mut [u8]) {
    let opened = File::open("/dev/urandom");
    opened.and_then(|mut file| file.read_exact(bytes)).expect("/dev/urandom");
}

/// A new key.
pub fn new_key() -> KeyPair {
    let mut secret = [0; 32];
    random(&mut secret);
    KeyPair::new(SecretKey::from_bytes(secret))
}
