//! Files that hold a token or a secret, read within bounds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// The largest file that is read. A token with many groups has some 10 KiB, a chain of certificates
/// likewise; a system's authorities are a few hundred.
const FILE_BYTES: u64 = 1 << 20;
/// The largest token. Providers and brokers refuse less.
const TOKEN_BYTES: usize = 64 << 10;

/// A file that cannot be used, and the reason.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileFault {
    /// The file.
    pub path: PathBuf,
    /// The fault in it.
    pub reason: String,
}

impl FileFault {
    pub(crate) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// The content of a file.
///
/// # Errors
/// It cannot be read, or is larger than 1 MiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileFault> {
    let fault = |error: std::io::Error| FileFault::new(path, error.to_string());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    let read = file.take(FILE_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(fault)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= FILE_BYTES => Ok(bytes),
        _ => Err(FileFault::new(path, "larger than 1 MiB")),
    }
}

/// The token in a file, without the white space around it.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub(crate) fn token(path: &Path) -> Result<Secret, FileFault> {
    let text = text(path)?;
    let text = text.trim_ascii();
    match wrong_token(text) {
        None => Ok(Secret::new(text)),
        Some(reason) => Err(FileFault::new(path, reason)),
    }
}

/// The secret in a file, without one newline at its end.
///
/// # Errors
/// The file cannot be read, or is empty.
pub(crate) fn secret(path: &Path) -> Result<Secret, FileFault> {
    let text = text(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(FileFault::new(path, "empty"));
    }
    Ok(Secret::new(text))
}

fn text(path: &Path) -> Result<String, FileFault> {
    let text = String::from_utf8(read(path)?);
    text.map_err(|_| FileFault::new(path, "not a text file (UTF-8)"))
}

/// The reason why a text is no bearer token (RFC 6750 section 2.1), if it is none.
pub(crate) fn wrong_token(text: &str) -> Option<&'static str> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let padded = text.trim_end_matches('=');
    match text.len() {
        0 => Some("empty, a token is wanted"),
        length if length > TOKEN_BYTES => Some("longer than 64 KiB, which is no token"),
        _ if padded.is_empty() || !padded.bytes().all(is_part) => {
            Some("no token: it has characters that a bearer token does not have (RFC 6750)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for (content, token_is, secret_is) in [
            (&b"abc.def-g_~+/=="[..], Ok("abc.def-g_~+/=="), Ok("abc.def-g_~+/==")),
            (b"\n abc \r\n", Ok("abc"), Ok("\n abc ")),
            (b"", Err("empty"), Err("empty")),
            (b"\n", Err("empty"), Err("empty")),
            (b"==", Err("RFC 6750"), Ok("==")),
            (b"a b", Err("RFC 6750"), Ok("a b")),
            ("t\u{f6}ken".as_bytes(), Err("RFC 6750"), Ok("t\u{f6}ken")),
            (b"\xff", Err("UTF-8"), Err("UTF-8")),
            (&[b'a'; (64 << 10) + 1], Err("64 KiB"), Ok("")),
            (&[b'a'; (1 << 20) + 1], Err("1 MiB"), Err("1 MiB")),
        ] {
            std::fs::write(&file, content).unwrap();
            for (found, expected) in [(token(&file), token_is), (secret(&file), secret_is)] {
                match (found, expected) {
                    // Too long to be written here.
                    (Ok(_), Ok("")) => {}
                    (Ok(found), Ok(expected)) => assert_eq!(found.expose(), expected),
                    (Err(found), Err(expected)) => {
                        let found = found.to_string();
                        assert!(found.contains(expected), "{found}");
                        assert!(found.starts_with(file.to_str().unwrap()), "{found}");
                    }
                    (found, expected) => panic!("{found:?}, not {expected:?}"),
                }
            }
        }
        let missing = token(&directory.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none: No such file"), "{missing}");
    }
}
