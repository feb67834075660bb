//! Watches the folder of public certificates.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::gate::Identities;
use crate::key_folder::{Folder, Found};

/// Time between two looks. A key whose file is removed is closed within that.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the folder for the first time: before a peer is let in.
pub fn read(mut folder: Folder, identities: &Identities) -> std::io::Result<Folder> {
    if let Some(found) = folder.look(Instant::now())? {
        identities.take(found);
    }
    Ok(folder)
}

/// Looks at the folder for as long as the task lives. One that cannot be listed leaves what was
/// known, but not for ever.
pub async fn keep_watching(mut folder: Folder, identities: Arc<Identities>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let looking = tokio::task::spawn_blocking(move || {
            let found = folder.look(Instant::now());
            (folder, found)
        });
        // The panic hook has logged it. The folder is gone with it, and this task is begun again.
        let Ok((back, found)) = looking.await else { return };
        folder = back;
        match found {
            Ok(found) => {
                if std::mem::take(&mut failing) {
                    identities.health().set_folder(None, false);
                    info!("the folder of keys can be listed again");
                }
                if let Some(found) = found {
                    identities.take(found);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "the folder of keys cannot be listed: what was known stays for a day");
                }
                let given_up = folder.give_up(Instant::now());
                identities.health().set_folder(Some(error.to_string()), given_up);
                if given_up {
                    warn!(%error, "the folder of keys could not be listed for a day: its keys are let go");
                    identities.take(Found::default());
                }
            }
        }
    }
}
