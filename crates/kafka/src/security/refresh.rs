//! Keeps a librdkafka client supplied with tokens, from a thread of its own: the polling thread
//! never waits for the provider.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use zafka_oidc::TokenError;

use super::bearer::Bearer;
use crate::backoff::Backoff;
use crate::guard;
use crate::native::{TokenRefusal, set_token};

/// Time between two tries while there is no token.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));

/// The reason why a client has no new token.
#[derive(Debug, thiserror::Error)]
enum NoToken {
    #[error(transparent)]
    Provider(#[from] TokenError),
    #[error(transparent)]
    Client(#[from] TokenRefusal),
}

/// A client that is to be supplied with tokens.
pub(crate) trait Supplied: Send + Sync + 'static {
    /// The client's callbacks.
    type Context: ClientContext;

    /// The client as librdkafka has it.
    fn native(&self) -> &Client<Self::Context>;

    /// Reports that there is no token, and why.
    fn refused(&self, reason: &str);
}

/// Held by users of tokens; when it is dropped, the thread ends.
pub(crate) type TokensWanted = Sender<Infallible>;

/// A pair: what the client's context holds, and what the thread looks at.
pub(crate) fn wanted() -> (TokensWanted, Receiver<Infallible>) {
    channel()
}

/// Starts the thread.
pub(crate) fn start<C: Supplied>(
    client: &Arc<C>,
    provider: &Arc<Bearer>,
    wanted: Receiver<Infallible>,
) -> std::io::Result<()> {
    let (client, provider) = (Arc::downgrade(client), Arc::clone(provider));
    let name = "kafka-token";
    let run = move || guard::again_and_again(name, || run(&client, &provider, &wanted));
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}

fn run<C: Supplied>(client: &Weak<C>, provider: &Bearer, wanted: &Receiver<Infallible>) {
    let mut failures = 0;
    let mut wait = Duration::ZERO;
    while let Err(RecvTimeoutError::Timeout) = wanted.recv_timeout(wait) {
        let token = provider.token();
        let Some(client) = client.upgrade() else { return };
        let set = token.map_err(NoToken::from).and_then(|token| {
            set_token(
                client.native(),
                token.secret.expose(),
                token.expires_ms,
                provider.principal(),
                provider.extensions(),
            )?;
            Ok(token.refresh_at)
        });
        wait = match set {
            Ok(refresh_at) => {
                failures = 0;
                refresh_at.saturating_duration_since(Instant::now())
            }
            Err(reason) => {
                client.refused(&reason.to_string());
                failures += 1;
                RETRY.after(failures - 1)
            }
        };
    }
}
