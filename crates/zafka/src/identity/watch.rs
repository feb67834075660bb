//! Watches the folder of public certificates.
//!
//! Its file system may be that of another machine, which does not answer: what is known stays for a
//! day, as if the folder could not be listed.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::gate::Identities;
use crate::blocking::{Blocking, PATIENCE, in_time, late};
use crate::key_folder::{Folder, Found};

/// Time between two looks. A key whose file is removed is closed within that.
const LOOK: Duration = Duration::from_secs(1);
/// Time for which a folder that cannot be listed leaves what was known.
const HOLDS: Duration = Duration::from_secs(24 * 3600);

/// Reads the folder for the first time: before a peer is let in.
pub fn read(mut folder: Folder, identities: &Identities) -> io::Result<Folder> {
    let (folder, found) = in_time(PATIENCE, move || {
        let found = folder.look(Instant::now());
        (folder, found)
    })?;
    if let Some(found) = found? {
        identities.take(found);
    }
    Ok(folder)
}

/// Looks at the folder for as long as the task lives. One that cannot be listed leaves what was
/// known, but not for ever.
pub async fn keep_watching(mut folder: Folder, identities: Arc<Identities>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut absence = Absence::default();
    loop {
        ticks.tick().await;
        let mut looking = Blocking::begin(move || {
            let found = folder.look(Instant::now());
            (folder, found)
        });
        let (back, found) = loop {
            match looking.wait(PATIENCE).await {
                Some(Ok(looked)) => break looked,
                // The panic hook has logged it. The folder is gone with it, and this task is begun
                // again.
                Some(Err(_)) => return,
                None => tell_absent(&mut absence, &late(PATIENCE), &identities),
            }
        };
        folder = back;
        match found {
            Ok(found) => {
                let back = absence.handle_listed();
                if back != Back::WasThere {
                    identities.health().set_folder(None, false);
                    info!("the folder of keys can be listed again");
                }
                if back == Back::Forgotten {
                    // With the next look: also what has not changed.
                    folder.tell_again();
                } else if let Some(found) = found {
                    identities.take(found);
                }
            }
            Err(error) => tell_absent(&mut absence, &error, &identities),
        }
    }
}

/// Tells that the folder cannot be listed, and lets its keys go if that lasts too long.
fn tell_absent(absence: &mut Absence, error: &io::Error, identities: &Identities) {
    let news = absence.handle_failure(Instant::now());
    identities.health().set_folder(Some(error.to_string()), news == Some(News::Over));
    match news {
        Some(News::Begun) => {
            warn!(%error, "the folder of keys cannot be listed: what was known stays for a day");
        }
        Some(News::Over) => {
            warn!(%error, "the folder of keys could not be listed for a day: its keys are let go");
            identities.take(Found::default());
        }
        None => {}
    }
}

/// The time for which the folder cannot be listed. Pure.
#[derive(Debug, Default)]
struct Absence {
    since: Option<Instant>,
    is_over: bool,
}

/// A change while the folder cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// It cannot be listed now.
    Begun,
    /// Its keys are known no longer.
    Over,
}

/// The state of what was known of a folder that was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    /// It was listed before, too.
    WasThere,
    /// Its keys are known still.
    Known,
    /// Its keys were let go.
    Forgotten,
}

impl Absence {
    /// The folder cannot be listed, or does not answer. Returns what is new by that.
    fn handle_failure(&mut self, now: Instant) -> Option<News> {
        let Some(since) = self.since else {
            self.since = Some(now);
            return Some(News::Begun);
        };
        if self.is_over || now < since + HOLDS {
            return None;
        }
        self.is_over = true;
        Some(News::Over)
    }

    /// The folder was listed. Returns what had become of what was known.
    fn handle_listed(&mut self) -> Back {
        match std::mem::take(self) {
            Self { since: None, .. } => Back::WasThere,
            Self { is_over: false, .. } => Back::Known,
            Self { is_over: true, .. } => Back::Forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_of_a_folder_that_is_away_holds_for_a_day() {
        let (mut absence, start) = (Absence::default(), Instant::now());
        assert_eq!(absence.handle_listed(), Back::WasThere);
        let failed = |absence: &mut Absence, after| absence.handle_failure(start + after);
        let second = Duration::from_secs(1);
        assert_eq!(failed(&mut absence, Duration::ZERO), Some(News::Begun));
        assert_eq!(failed(&mut absence, HOLDS - second), None);
        assert_eq!(absence.handle_listed(), Back::Known);
        // Another one has a day of its own.
        assert_eq!(failed(&mut absence, HOLDS), Some(News::Begun));
        assert_eq!(failed(&mut absence, HOLDS * 2 - second), None);
        assert_eq!(failed(&mut absence, HOLDS * 2), Some(News::Over));
        assert_eq!(failed(&mut absence, HOLDS * 3), None, "once");
        assert_eq!(absence.handle_listed(), Back::Forgotten);
        assert_eq!(absence.handle_listed(), Back::WasThere);
    }
}
