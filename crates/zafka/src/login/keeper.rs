//! Keeps the lease of a login while a command runs.
//!
//! A connection shows its token once. The lease is the key's, so that the next token is shown by a
//! second connection, which ends then; the first one stays.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use zafka_sockets::config::EndpointConfig;
use zafka_sockets::{OutboundEvent, OutboundKind, OutboundSocket, SubEvent, SubSocket};
use zafka_zmtp::curve::ClientSide;
use zafka_zmtp::{Mechanism, Token};

use super::store::Store;
use super::{LoggedIn, current_in, is_over};
use crate::cli::CommandError;
use crate::identity::wall_clock;
use crate::stderr;

/// Shortest and longest pause between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Time for a connection, and so for the relay to see the token.
const CONNECTS: Duration = Duration::from_secs(10);

/// The task that keeps a lease; it ends with this.
#[derive(Debug)]
pub struct Keeper(JoinHandle<()>);

impl Keeper {
    /// Begins with an endpoint that `login` was shown to, on the runtime that this is called on.
    /// `kind` is that of the command's own socket; `None` is a SUB.
    pub fn start(endpoint: EndpointConfig, kind: Option<OutboundKind>, login: LoggedIn) -> Self {
        Self(tokio::spawn(keep(endpoint, kind, login)))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(endpoint: EndpointConfig, kind: Option<OutboundKind>, login: LoggedIn) {
    let LoggedIn { token: mut shown, mut ends, .. } = login;
    loop {
        sleep(until_renewal(ends, wall_clock())).await;
        match next(shown.clone()).await {
            Ok(LoggedIn { token, ends: end, .. }) => {
                if show(&endpoint, kind, &token).await {
                    (shown, ends) = (token, end);
                }
            }
            Err(error) => {
                stderr::say(&format!("zafka: the token is not renewed: {error}"));
                if is_over(&error) {
                    return;
                }
            }
        }
    }
}

/// Time until the next token is wanted, at three quarters of what is left.
fn until_renewal(ends: i64, now: i64) -> Duration {
    let left = u64::try_from(ends.saturating_sub(now)).unwrap_or(0);
    (Duration::from_secs(left) / 4).saturating_mul(3).clamp(PAUSE, LONGEST)
}

/// Another token than the one that was shown.
async fn next(shown: Token) -> Result<LoggedIn, CommandError> {
    // It asks the provider, which may take 20 s.
    let asked = spawn_blocking(move || current_in(&Store::of_user()?, Some(&shown)));
    asked.await.unwrap_or_else(|error| Err(error.into()))
}

/// Shows a token by a connection of its own. Returns whether the relay let that in.
async fn show(endpoint: &EndpointConfig, kind: Option<OutboundKind>, token: &Token) -> bool {
    let Mechanism::CurveClient(side) = &endpoint.mechanism else { return true };
    let (keys, token) = (side.keys.clone(), Some(token.clone()));
    let side = ClientSide { keys, server: side.server, token, random: side.random };
    let mechanism = Mechanism::CurveClient(Arc::new(side));
    let to = EndpointConfig { endpoint: endpoint.endpoint.clone(), mechanism };
    let connected = async {
        match kind {
            None => {
                let mut socket = SubSocket::new(to, Vec::new());
                while socket.next().await != SubEvent::Connected {}
            }
            Some(kind) => {
                let mut socket = OutboundSocket::new(kind, to);
                while !matches!(socket.next().await, OutboundEvent::Connected(_)) {}
            }
        }
    };
    timeout(CONNECTS, connected).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_token_is_renewed() {
        for (left, seconds) in [(400, 300), (12, 9), (0, 5), (-100, 5), (i64::MAX, 24 * 3600)] {
            assert_eq!(until_renewal(left, 0), Duration::from_secs(seconds));
        }
    }
}
