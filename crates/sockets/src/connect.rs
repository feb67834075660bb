//! Connecting to an endpoint: one address at a time, again and again, with exponential backoff and
//! jitter.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::resolve::resolve;
use crate::stream::Stream;
use crate::{Endpoint, Port};

/// Time that one address has to answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a failure that lasts is logged again.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Reasons that are remembered as logged.
const REASONS: usize = 64;

/// Connects to one endpoint. A name's addresses are tried in turn, each with an attempt of its own:
/// one that does not answer does not keep the others from being tried.
#[derive(Debug)]
pub(crate) struct Connector {
    endpoint: Endpoint,
    /// The addresses that are left of the last look-up of the name.
    untried: VecDeque<SocketAddr>,
    backoff: Backoff,
}

impl Connector {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, untried: VecDeque::new(), backoff: Backoff::default() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One attempt.
    pub(crate) async fn attempt(&mut self) -> io::Result<Stream> {
        match &self.endpoint {
            Endpoint::Tcp { host, port: Port::Number(port) } => {
                if self.untried.is_empty() {
                    self.untried = resolve(host, *port).await?.into();
                }
                let Some(address) = self.untried.pop_front() else {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
                };
                let connected = connect(address).await;
                if address.ip().to_string() == *host {
                    return connected;
                }
                connected
                    .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
            }
            Endpoint::Tcp { .. } => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a wildcard port cannot be connected to",
            )),
            // The kernel answers at once.
            Endpoint::Ipc(path) => Ok(Stream::Ipc(UnixStream::connect(path).await?)),
        }
    }

    /// The pause before the next attempt: none while the name has addresses that were not tried.
    pub(crate) fn next_pause(&mut self) -> Duration {
        if self.untried.is_empty() { self.backoff.next_pause() } else { Duration::ZERO }
    }

    /// Notes that the last attempt led to a peer: the next one looks the name up again.
    pub(crate) fn succeeded(&mut self) {
        self.untried.clear();
        self.backoff = Backoff::default();
    }
}

async fn connect(address: SocketAddr) -> io::Result<Stream> {
    let connected = timeout(ATTEMPT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })?;
    // On one machine, a port without a listener can be picked for our own end of the connection.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there"));
    }
    Stream::tcp(stream)
}

/// Decides which failures of an endpoint are logged: a new reason, and every ten minutes one that
/// lasts.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    told: Vec<(String, Instant)>,
}

impl Failures {
    /// Returns true if this one is to be logged now.
    pub(crate) fn is_news(&mut self, reason: &str, now: Instant) -> bool {
        match self.told.iter_mut().find(|(told, _)| told == reason) {
            Some((_, at)) if now.duration_since(*at) < TELL_AGAIN => return false,
            Some((_, at)) => *at = now,
            None => {
                if self.told.len() >= REASONS {
                    self.told.clear();
                }
                self.told.push((reason.to_owned(), now));
            }
        }
        true
    }

    /// Forgets them: the endpoint was reached.
    pub(crate) fn clear(&mut self) {
        self.told.clear();
    }
}

/// Pauses between attempts: they double from 100 ms to 5 s, and each is drawn from the upper half
/// of its length, so that many peers of one endpoint do not come back in step.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    fn next_pause(&mut self) -> Duration {
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
    }

    #[tokio::test]
    async fn the_addresses_of_a_name_are_tried_in_turn() {
        let served = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = tokio::net::TcpListener::bind(served).await.unwrap();
        let refused = SocketAddr::from(([127, 0, 0, 2], served.port()));
        let endpoint = format!("tcp://name.invalid:{}", served.port()).parse().unwrap();
        let mut connector = Connector::new(endpoint);
        // As if the name had these addresses.
        connector.untried = [refused, served, refused].into();
        let error = connector.attempt().await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("{refused}: ")), "{error}");
        assert_eq!(connector.next_pause(), Duration::ZERO);
        assert!(connector.attempt().await.is_ok());
        // No handshake: the next one is tried. After it the name is looked up again.
        assert_eq!(connector.next_pause(), Duration::ZERO);
        assert!(connector.attempt().await.is_err());
        assert!(connector.next_pause() >= Backoff::FIRST / 2);
        connector.untried = [refused].into();
        connector.succeeded();
        assert!(connector.untried.is_empty());
        drop(listener);
    }

    #[test]
    fn a_failure_is_told_once_in_ten_minutes() {
        let mut failures = Failures::default();
        let start = Instant::now();
        for (seconds, reason, told) in [
            (0, "a: refused", true),
            (1, "b: no answer", true),
            (2, "a: refused", false),
            (599, "b: no answer", false),
            (600, "a: refused", true),
            (601, "a: refused", false),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(failures.is_news(reason, now), told, "{reason} after {seconds} s");
        }
        failures.clear();
        assert!(failures.is_news("a: refused", start));
        for number in 0..10 * REASONS {
            failures.is_news(&number.to_string(), start);
        }
        assert!(failures.told.len() <= REASONS);
    }
}
