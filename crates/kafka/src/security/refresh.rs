//! Keeps a librdkafka client supplied with tokens, from a thread of its own: the polling thread
//! never waits for the provider.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};

use super::bearer::Bearer;
use crate::guard;
use crate::native::set_token;

/// Time between two tries while there is no token.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

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
    let mut retry = RETRY.0;
    let mut wait = Duration::ZERO;
    while let Err(RecvTimeoutError::Timeout) = wanted.recv_timeout(wait) {
        let token = provider.token();
        let Some(client) = client.upgrade() else { return };
        let set = match &token {
            Ok(token) => set_token(
                client.native(),
                token.secret.expose(),
                token.expires_ms,
                provider.principal(),
                provider.extensions(),
            ),
            Err(error) => Err(error.to_string()),
        };
        wait = match (token, set) {
            (Ok(token), Ok(())) => {
                retry = RETRY.0;
                token.refresh_at.saturating_duration_since(Instant::now())
            }
            (_, set) => {
                if let Err(reason) = set {
                    client.refused(&reason);
                }
                let wait = retry;
                retry = (retry * 2).min(RETRY.1);
                wait
            }
        };
    }
}
