//! Ends leases that are over.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::gate::{self, Identities};

/// Time between two looks. The wall clock may be set, so that no single moment can be waited for.
const LOOK: Duration = Duration::from_millis(250);

/// Time by which the clock is set back from which on it is logged: less is usual.
const TELL_OF: Duration = Duration::from_secs(10);

/// Closes peers whose lease is over, for as long as the task lives.
pub async fn keep_ending(identities: Arc<Identities>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        ticks.tick().await;
        identities.end_leases();
        identities.end_unanswered(Instant::now());
        let behind = gate::clock_behind();
        let is_behind = behind >= TELL_OF;
        if is_behind && !told {
            let seconds = behind.as_secs();
            warn!(
                seconds,
                "the clock was set back: tokens are judged by the time that has passed since the \
                 start, so that new ones may seem to have ended until it has caught up, or a restart"
            );
        }
        told = is_behind;
    }
}
