//! Keeps the keys of issuers fresh, one task for each issuer.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use tracing::{debug, info, warn};
use zafka_identity::{KeyRefresh, KeySet};

use super::gate::{Identities, wall_clock};
use crate::blocking::{Blocking, late};
use crate::issuer_keys::{FetchedKeys, KeySource};

/// Time for a fetch. A provider has less.
const FETCH: Duration = Duration::from_secs(30);
/// Failures in a row after which they are logged once more; about an hour of them.
const TELL_AGAIN: u32 = 60;

/// Fetches the keys of the issuer of this index, for as long as the task lives.
pub async fn keep_fresh(source: KeySource, index: usize, identities: Arc<Identities>) {
    let mut refresh = KeyRefresh::new(Instant::now());
    let (mut failures, mut told) = (0, false);
    let issuer = source.issuer.clone();
    loop {
        if refresh.handle_timeout(Instant::now()) {
            identities.set_issuer_keys(index, refresh.keys());
            identities.counts.not_fetched(index, 0, "they could not be fetched for a day");
            warn!(issuer, "its keys could not be fetched for a day: its tokens are not taken now");
        }
        if !refresh.poll_fetch(Instant::now()) {
            let until = refresh.poll_timeout();
            tokio::select! {
                () = sleep(until) => {}
                () = identities.unknown_key(index) => refresh.handle_unknown_key(),
            }
            continue;
        }
        let mut fetching = Blocking::begin({
            let source = source.clone();
            move || source.fetch()
        });
        let fetched = loop {
            match fetching.wait(FETCH).await {
                Some(fetched) => break fetched,
                // A file of another machine's, which does not answer.
                None => {
                    let gives_up = refresh.handle_timeout(Instant::now());
                    identities.set_issuer_keys(index, refresh.keys());
                    let (error, known) = (late(FETCH), refresh.keys().len());
                    identities.counts.not_fetched(index, known, &error.to_string());
                    if gives_up || !std::mem::replace(&mut told, true) {
                        warn!(issuer, %error, known, "no keys could be fetched");
                    }
                }
            }
        };
        told = false;
        let outcome = match fetched {
            Ok(Err(error)) if error.is_withdrawal() => {
                warn!(issuer, "the issuer has no keys: its tokens are not taken");
                Ok(FetchedKeys { keys: KeySet::default(), max_age: None })
            }
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            // The panic hook has logged it.
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(fetched) => {
                let known = fetched.keys.len();
                let changed = refresh.handle_keys(fetched.keys, fetched.max_age, Instant::now());
                identities.set_issuer_keys(index, refresh.keys());
                let now = wall_clock().saturating_mul(1000);
                identities.counts.fetched(index, refresh.keys().len(), now);
                if changed || failures > 0 {
                    info!(issuer, known, "the keys of an issuer were fetched");
                }
                failures = 0;
            }
            Err(error) => {
                failures = refresh.handle_failure(Instant::now());
                let known = refresh.keys().len();
                identities.counts.not_fetched(index, known, &error);
                if failures == 1 || failures.is_multiple_of(TELL_AGAIN) {
                    warn!(issuer, %error, known, failures, "no keys could be fetched");
                } else {
                    debug!(issuer, %error, known, failures, "no keys could be fetched");
                }
            }
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
