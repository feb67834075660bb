//! Certificates: files with a CURVE key, in the format of czmq (zcert) and pyzmq (zmq.auth).
//!
//! A file has two sections, `metadata` and `curve`, with lines `name = "value"` that are indented,
//! and comments that begin with `#`.

use std::collections::BTreeMap;
use std::fmt::Write;

use zafka_zmtp::curve::{KeyError, KeyPair, PublicKey, SecretKey};

/// The largest file that is a certificate, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The content of a file.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The public key.
    pub public: PublicKey,
    /// The secret key, if the file has it.
    pub secret: Option<SecretKey>,
    /// Metadata of the key, by name.
    pub metadata: BTreeMap<String, String>,
}

/// The reason why a file is no certificate. No key stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is no public key.
    #[error("no public-key in the section `curve`")]
    NoPublicKey,
    /// There is no secret key, and one is needed.
    #[error("no secret-key in the section `curve`: this is the public file")]
    NoSecretKey,
    /// Something stands there twice.
    #[error("line {line}: {name} stands there twice")]
    Twice {
        /// The line, from 1.
        line: usize,
        /// A name that the format has, or of metadata.
        name: String,
    },
    /// A key that is none.
    #[error("line {line}: {name}: {error}")]
    Key {
        /// The line, from 1.
        line: usize,
        /// `public-key` or `secret-key`.
        name: &'static str,
        /// The cause.
        error: KeyError,
    },
    /// The keys do not belong together.
    #[error("the public-key is not that of the secret-key")]
    Mismatch,
    /// A line that is nothing.
    #[error("line {line}: neither a comment nor `name = \"value\"`")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A large file.
    #[error("more than {MAX_BYTES} bytes")]
    TooLarge,
}

impl Certificate {
    /// Reads a file's text.
    ///
    /// # Errors
    /// A text that is no certificate.
    pub fn parse(text: &str) -> Result<Self, CertificateError> {
        if text.len() > MAX_BYTES {
            return Err(CertificateError::TooLarge);
        }
        let (mut public, mut secret, mut metadata) = (None, None, BTreeMap::new());
        let mut section = "";
        for (line, raw) in (1..).zip(text.lines()) {
            let content = raw.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if !raw.starts_with([' ', '\t']) && !content.contains('=') {
                section = content;
                continue;
            }
            let (name, value) = content
                .split_once('=')
                .map(|(name, value)| (name.trim(), unquoted(value.trim())))
                .filter(|(name, _)| !name.is_empty())
                .ok_or(CertificateError::Line { line })?;
            let twice = || CertificateError::Twice { line, name: name.to_owned() };
            match (section, name) {
                ("curve", "public-key") => {
                    let key = value.parse::<PublicKey>();
                    let key = key.map_err(|error| key_error(line, "public-key", error))?;
                    if public.replace(key).is_some() {
                        return Err(twice());
                    }
                }
                ("curve", "secret-key") => {
                    let key = SecretKey::from_z85(value);
                    let key = key.map_err(|error| key_error(line, "secret-key", error))?;
                    if secret.replace(key).is_some() {
                        return Err(twice());
                    }
                }
                ("metadata", name) => {
                    let before = metadata.insert(name.to_owned(), value.to_owned());
                    if before.is_some() {
                        return Err(twice());
                    }
                }
                // Sections of others are theirs.
                _ => {}
            }
        }
        let public = public.ok_or(CertificateError::NoPublicKey)?;
        if secret.as_ref().is_some_and(|secret| secret.public_key() != public) {
            return Err(CertificateError::Mismatch);
        }
        Ok(Self { public, secret, metadata })
    }

    /// Returns both keys.
    ///
    /// # Errors
    /// The certificate has the public key alone.
    pub fn into_key_pair(self) -> Result<KeyPair, CertificateError> {
        self.secret.map(KeyPair::new).ok_or(CertificateError::NoSecretKey)
    }

    /// The text of the public file of a key.
    pub fn public_text(keys: &KeyPair) -> String {
        let mut text = String::from(
            "# ZeroMQ CURVE public certificate. Give it to those who are to know this key.\n\
             metadata\n",
        );
        let _ = write!(text, "curve\n    public-key = \"{}\"\n", keys.public());
        text
    }

    /// The text of the secret file of a key.
    pub fn secret_text(keys: &KeyPair) -> String {
        let (public, secret) = (keys.public(), keys.secret().expose_z85());
        let mut text = String::from("# ZeroMQ CURVE secret certificate. Keep it.\nmetadata\n");
        let _ =
            write!(text, "curve\n    public-key = \"{public}\"\n    secret-key = \"{secret}\"\n");
        text
    }
}

fn key_error(line: usize, name: &'static str, error: KeyError) -> CertificateError {
    CertificateError::Key { line, name, error }
}

/// A value without its quotes. Z85 has neither of them.
fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";

    /// A certificate as pyzmq 27 writes it.
    fn pyzmq() -> String {
        format!(
            "#   ****  Generated on 2026-11-30 12:00:00 by pyzmq  ****\n\
             #   ZeroMQ CURVE **Secret** Certificate\n\
             #   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.\n\n\
             metadata\n    site = plant\ncurve\n    public-key = \"{PUBLIC}\"\n    \
             secret-key = \"{SECRET}\"\n"
        )
    }

    #[test]
    fn reads_what_others_write() {
        let czmq = format!(
            "#   ZeroMQ CURVE Public Certificate\n\nmetadata\n    name = \"PLC = 7\"\n\
             curve\n    public-key = \"{PUBLIC}\"\n"
        );
        let certificate = Certificate::parse(&czmq).unwrap();
        assert_eq!(certificate.public.to_string(), PUBLIC);
        assert_eq!(certificate.metadata["name"], "PLC = 7");
        assert_eq!(certificate.into_key_pair().unwrap_err(), CertificateError::NoSecretKey);
        let certificate = Certificate::parse(&pyzmq()).unwrap();
        assert_eq!(certificate.metadata["site"], "plant");
        assert_eq!(certificate.into_key_pair().unwrap().public().to_string(), PUBLIC);
    }

    #[test]
    fn reads_what_it_writes() {
        let keys = KeyPair::new(SecretKey::from_z85(SECRET).unwrap());
        let public = Certificate::parse(&Certificate::public_text(&keys)).unwrap();
        assert_eq!((public.public, public.secret.is_none()), (keys.public(), true));
        assert!(!Certificate::public_text(&keys).contains(SECRET));
        let secret = Certificate::parse(&Certificate::secret_text(&keys)).unwrap();
        assert_eq!(secret.into_key_pair().unwrap().secret().expose_z85(), SECRET);
    }

    #[test]
    fn what_is_no_certificate() {
        use CertificateError::{Key, Line, Mismatch, NoPublicKey, TooLarge, Twice};
        let twice = |line, name: &str| Twice { line, name: name.to_owned() };
        let key = |line, error| Key { line, name: "public-key", error };
        let good = pyzmq();
        assert!(Certificate::parse(&good).is_ok());
        for (text, error) in [
            (String::new(), NoPublicKey),
            (good.replace("curve\n", "other\n"), NoPublicKey),
            (good.replace(PUBLIC, &PUBLIC[1..]), key(8, KeyError::Length { found: 39 })),
            (good.replace(PUBLIC, &PUBLIC.replace(':', " ")), key(8, KeyError::Character)),
            (good.replace(PUBLIC, &"0".repeat(40)), key(8, KeyError::LowOrder)),
            (good.replace(SECRET, &"1".repeat(40)), Mismatch),
            (format!("{good}    public-key = \"{PUBLIC}\"\n"), twice(10, "public-key")),
            (format!("{good}    secret-key = \"{SECRET}\"\n"), twice(10, "secret-key")),
            (good.replace("site = plant", "site = a\n    site = b"), twice(7, "site")),
            (good.replace("site = plant", "site plant"), Line { line: 6 }),
            (good.replace("site = plant", "= plant"), Line { line: 6 }),
            (good.clone() + &"#\n".repeat(MAX_BYTES), TooLarge),
        ] {
            let found = Certificate::parse(&text).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!found.to_string().contains(SECRET));
        }
    }
}
