//! Ends leases that are over, and forgets their tokens.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use super::gate::{self, Identities};

/// Time between two looks. The wall clock may be set, so that no single moment can be waited for.
const LOOK: Duration = Duration::from_millis(250);

/// Time between two looks at all that is kept of leases. What is kept of one goes with its end;
/// this finds what was kept after that, and leases that nobody asks about any more.
const LOOK_AT_ALL: Duration = Duration::from_secs(10);

/// Time by which the clock is set back from which on it is logged: less is usual.
const TELL_OF: Duration = Duration::from_secs(10);

/// Closes peers whose lease is over, for as long as the task lives.
pub async fn keep_ending(identities: Arc<Identities>) {
    let (mut looks, mut looks_at_all) = (ticks(LOOK), ticks(LOOK_AT_ALL));
    let mut told = false;
    loop {
        tokio::select! {
            _ = looks_at_all.tick() => {
                identities.forget_tokens();
                identities.end_unanswered(Instant::now());
            }
            _ = looks.tick() => {
                identities.end_leases();
                told = tell_behind(told);
            }
        }
    }
}

fn ticks(time: Duration) -> Interval {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Logs that the clock was set back, unless that is told. Returns true if it still is.
fn tell_behind(is_told: bool) -> bool {
    let behind = gate::clock_behind();
    let is_behind = behind >= TELL_OF;
    if is_behind && !is_told {
        let seconds = behind.as_secs();
        warn!(
            seconds,
            "the clock was set back: tokens are judged by the time that has passed since the \
             start, so that new ones may seem to have ended until it has caught up, or a restart"
        );
    }
    is_behind
}
