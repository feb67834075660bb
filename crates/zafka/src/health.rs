//! `zafka health`: asks a running relay for its health, as a container's health check does.
//!
//! Nothing else is at hand there: an image with the program alone has no shell and no HTTP client.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cli::HealthArgs;

/// Time for the connection, the request and the answer together.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most that is read of an answer, in bytes.
const ANSWER_BYTES: u64 = 64 * 1024;

/// The relay is not healthy, or does not say so.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is no listener, or the connection broke.
    #[error("{url}: {error}")]
    Unreachable {
        /// The URL that was asked for.
        url: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// No answer in time.
    #[error("{url}: no answer within {} s", DEADLINE.as_secs())]
    Silent {
        /// The URL that was asked for.
        url: String,
    },
    /// An answer that is not the admin endpoint's.
    #[error("{url}: found no HTTP answer but {found:?}")]
    NotHttp {
        /// The URL that was asked for.
        url: String,
        /// The first line of the answer.
        found: String,
    },
    /// The admin endpoint answered with another code than 200.
    #[error("{url}: {code} {body}")]
    Unhealthy {
        /// The URL that was asked for.
        url: String,
        /// The status code of the answer.
        code: u16,
        /// The reasons.
        body: String,
    },
}

/// Asks for `/healthz`, or `/readyz`, and returns once the answer is 200.
///
/// # Errors
/// Nothing answers, something else does, or the relay is not healthy.
pub async fn run(args: HealthArgs) -> Result<(), HealthError> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let url = format!("http://{}{path}", args.admin);
    let answer = match timeout(DEADLINE, get(args.admin, path)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(HealthError::Unreachable { url, error }),
        Err(_) => return Err(HealthError::Silent { url }),
    };
    match parsed(&answer) {
        Some((200, _)) => Ok(()),
        Some((code, body)) => Err(HealthError::Unhealthy { url, code, body: body.to_owned() }),
        None => {
            let found = answer.lines().next().unwrap_or_default().chars().take(80).collect();
            Err(HealthError::NotHttp { url, found })
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Status code and body of an HTTP answer.
fn parsed(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_bodies() {
        for (answer, expected) in [
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n", Some((200, "ok"))),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n{}", Some((503, "{}"))),
            ("HTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.1 ok\r\n\r\n", None),
            ("\u{fffd}\0\0NULL", None),
            ("", None),
        ] {
            assert_eq!(parsed(answer), expected, "{answer:?}");
        }
    }
}
