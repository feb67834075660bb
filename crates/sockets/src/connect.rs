//! Connecting to an endpoint, with exponential backoff and jitter.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::stream::Stream;
use crate::{Endpoint, Port};

/// How long one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects once.
pub(crate) async fn connect(endpoint: &Endpoint) -> io::Result<Stream> {
    let attempt = async {
        match endpoint {
            Endpoint::Tcp { host, port: Port::Number(port) } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // On one machine, a port that nobody listens on can be picked for our own end of the connection.
                if stream.local_addr()? == stream.peer_addr()? {
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
                }
                Stream::tcp(stream)
            }
            Endpoint::Tcp { .. } => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a wildcard port cannot be connected to"))
            }
            Endpoint::Ipc(path) => Ok(Stream::Ipc(UnixStream::connect(path).await?)),
        }
    };
    timeout(ATTEMPT_TIMEOUT, attempt)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s")))
}

/// Pauses between attempts: they double from 100 ms to 5 s, and each is drawn from the upper half of its length, so
/// that many peers of one endpoint do not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures += 1;
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let mut full = Backoff::FIRST;
        for _ in 0..100 {
            let pause = backoff.next_pause();
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            full = (full * 2).min(Backoff::LONGEST);
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Backoff::FIRST);
    }
}
