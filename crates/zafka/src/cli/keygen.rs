//! `zafka keygen`: a new CURVE key, in two files.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zafka_identity::Certificate;
use zafka_zmtp::curve::KeyPair;

use super::{CommandError, KeygenArgs};
use crate::random::new_key;

/// The reason why there is no new key.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
struct KeygenError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Writes a new key, and prints the names of its files to `out`.
pub fn keygen(args: &KeygenArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let [public, secret] = ["key", "key_secret"].map(|ending| {
        let mut name = args.name.clone().into_os_string();
        name.push(".");
        name.push(ending);
        PathBuf::from(name)
    });
    let keys = std::iter::repeat_with(new_key).find(is_plain).unwrap_or_else(new_key);
    // The public file is there once the secret one is.
    write(&secret, 0o600, &Certificate::secret_text(&keys))?;
    if let Err(error) = write(&public, 0o644, &Certificate::public_text(&keys)) {
        // A pair or nothing: this file is ours, it was just made.
        let _ = std::fs::remove_file(&secret);
        return Err(error.into());
    }
    let text = format!(
        "{}  the public key {}: for those who talk to its owner\n\
         {}  the secret key, for its owner alone (mode 0600)\n",
        public.display(),
        keys.public(),
        secret.display(),
    );
    out.write_all(text.as_bytes()).map_err(|error| super::output_error(error).into())
}

/// Returns true if neither half has what configuration files and shells take for a variable: about
/// one key in fifty has.
fn is_plain(keys: &KeyPair) -> bool {
    let texts = [keys.public().to_string(), keys.secret().expose_z85()];
    texts.iter().all(|text| !text.contains("${") && !text.contains("$$") && !text.contains("$("))
}

/// Writes a file that is not there yet.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), KeygenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| KeygenError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_is_one_pair_and_replaces_none() {
        let directory = tempfile::tempdir().unwrap();
        let args = KeygenArgs { name: directory.path().join("relay.v1") };
        let mut out = Vec::new();
        keygen(&args, &mut out).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let public = Certificate::parse(&read("relay.v1.key")).unwrap();
        let keys = Certificate::parse(&read("relay.v1.key_secret")).unwrap().into_key_pair();
        let keys = keys.unwrap();
        assert_eq!((public.public, public.secret.is_none()), (keys.public(), true));
        let mode = |name: &str| {
            fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("relay.v1.key_secret"), 0o600);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(&keys.public().to_string()), "{out}");
        assert!(!out.contains(&keys.secret().expose_z85()));

        let error = keygen(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("relay.v1.key_secret: File exists"), "{error}");
        fs::remove_file(directory.path().join("relay.v1.key_secret")).unwrap();
        let error = keygen(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("relay.v1.key: File exists"), "{error}");
        assert!(!directory.path().join("relay.v1.key_secret").exists());
        assert_eq!(read("relay.v1.key"), Certificate::public_text(&keys));
    }
}
