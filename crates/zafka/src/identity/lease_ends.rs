//! Ends leases that are over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::gate::Identities;

/// Time between two looks. The wall clock may be set, so that no single moment can be waited for.
const LOOK: Duration = Duration::from_millis(250);

/// Closes peers whose lease is over, for as long as the task lives.
pub async fn keep_ending(identities: Arc<Identities>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        identities.end_leases();
    }
}
