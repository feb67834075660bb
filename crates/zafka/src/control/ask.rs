//! The asking side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ControlRequest, Line};

/// Time for each step: the connection, the request, each line of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Size of an answer in bytes.
const MAX_ANSWER: u64 = 256 << 20;

/// The relay was not asked, or did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no listener, or the connection broke.
    #[error("{}: {error}", path.display())]
    Unreachable {
        /// The socket file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The answer is not that of a control socket.
    #[error("{}: an answer that is none of a relay's control socket", path.display())]
    NotControl {
        /// The socket file.
        path: PathBuf,
    },
    /// The relay says why not.
    #[error("the relay refuses: {0}")]
    Refused(String),
}

/// Asks the relay that listens at a path. Returns the lines of its answer but the last.
///
/// # Errors
/// There is no whole answer, or it is a refusal.
pub async fn ask(path: &Path, request: &ControlRequest) -> Result<Vec<Line>, AskError> {
    let unreachable = |error| AskError::Unreachable { path: path.to_owned(), error };
    let stream = in_time(UnixStream::connect(path)).await.map_err(unreachable)?;
    let (input, mut output) = stream.into_split();
    // Numbers and texts alone always serialize.
    let mut text = serde_json::to_vec(request).unwrap_or_default();
    text.push(b'\n');
    in_time(output.write_all(&text)).await.map_err(unreachable)?;
    let mut input = BufReader::new(input.take(MAX_ANSWER));
    let (mut lines, mut text) = (Vec::new(), String::new());
    loop {
        text.clear();
        let read = in_time(input.read_line(&mut text)).await.map_err(unreachable)?;
        let line = serde_json::from_str(&text).ok().filter(|_| read > 0);
        match line.ok_or_else(|| AskError::NotControl { path: path.to_owned() })? {
            Line::End => return Ok(lines),
            Line::Error(why) => return Err(AskError::Refused(why)),
            line => lines.push(line),
        }
    }
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
    timeout(DEADLINE, step).await.unwrap_or_else(|_| Err(late()))
}
