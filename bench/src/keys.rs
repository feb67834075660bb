//! CURVE keys for a measurement, and what a relay's configuration says of them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use zafka_testkit::Issuer;
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::paths::RunDir;
use zafka_zmtp::curve::{KeyPair, SecretKey};

use crate::Outcome;

/// The file of a relay's key, in the folder of its configuration.
const KEY_FILE: &str = "relay.key_secret";
/// Everybody, as [`identity`] takes it.
pub const ANY_KEY: &str = "\"any-key\"";

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

/// Makes a relay's key and its file.
///
/// # Errors
/// The file.
pub fn relay_key(folder: &RunDir) -> Outcome<KeyPair> {
    let (keys, path) = (new_key(), folder.join(KEY_FILE));
    let (public, secret) = (keys.public(), keys.secret().expose_z85());
    let text = format!("curve\n    public-key = \"{public}\"\n    secret-key = \"{secret}\"\n");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(keys)
}

/// The part of the configuration by which `who`, in TOML, may read everything; tokens are those of
/// an issuer.
pub fn identity(who: &str, issuer: Option<&Issuer>) -> String {
    let issuer = issuer.map(|issuer| {
        let name = issuer.name();
        format!("[[identity.issuer]]\nissuer = \"{name}\"\naudience = [\"{AUDIENCE}\"]\n")
    });
    format!(
        "[identity]\nsecret_key_file = \"{KEY_FILE}\"\n{}\
         [[identity.access]]\nwho = {who}\nread = [\"/^.*$/\"]\n",
        issuer.unwrap_or_default()
    )
}
