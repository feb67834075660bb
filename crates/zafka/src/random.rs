//! Random bytes, and keys of them.

use zafka_zmtp::curve::{KeyPair, SecretKey};

/// Fills bytes for keys, cookies and nonces.
pub fn random(bytes: &mut [u8]) {
    rand::fill(bytes);
}

/// A new key, for peers that need no name.
pub fn new_key() -> KeyPair {
    let mut bytes = [0; 32];
    random(&mut bytes);
    KeyPair::new(SecretKey::from_bytes(bytes))
}
