//! The file that a token is read from.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zafka_zmtp::Token;

use crate::secret_file::Exposed;

/// The largest file with a token that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024;

/// Reads the token in a file.
///
/// # Errors
/// A file that cannot be read, or holds no token.
pub fn token_in(path: &Path) -> Result<Token, String> {
    let shown = path.display();
    if let Some(exposed) = Exposed::look(path) {
        tracing::warn!("{exposed}; better is {}", exposed.remedy());
    }
    let file = File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| format!("{shown}: {error}"))?;
    let token = text.trim();
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("{shown}: more than {MAX_BYTES} bytes"));
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{shown}: not a token: one word of printable ASCII characters"));
    }
    Ok(Token::new(token.as_bytes().to_vec()))
}
