//! Watches the folder of public certificates.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::gate::Identities;
use crate::key_folder::Folder;

/// Time between two looks. A key whose file is removed is closed within that.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the folder for the first time: before a peer is let in.
pub fn read(mut folder: Folder, identities: &Identities) -> std::io::Result<Folder> {
    if let Some(found) = folder.look()? {
        identities.take(found);
    }
    Ok(folder)
}

/// Looks at the folder for as long as the task lives. One that cannot be listed leaves what was
/// known.
pub async fn keep_watching(mut folder: Folder, identities: Arc<Identities>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let looking = tokio::task::spawn_blocking(move || {
            let found = folder.look();
            (folder, found)
        });
        // A panic is logged where it happens; without the folder no key is taken back.
        let Ok((back, found)) = looking.await else {
            warn!("the folder of keys is not watched any more");
            return;
        };
        folder = back;
        match found {
            Ok(found) => {
                if std::mem::take(&mut failing) {
                    info!("the folder of keys can be listed again");
                }
                if let Some(found) = found {
                    identities.take(found);
                }
            }
            Err(error) if !failing => {
                failing = true;
                warn!(%error, "the folder of keys cannot be listed: what was known stays");
            }
            Err(_) => {}
        }
    }
}
