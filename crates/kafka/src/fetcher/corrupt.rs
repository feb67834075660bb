//! What becomes of a partition whose next batch fails its checks for good.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::config::OnCorrupt;
use crate::generation::DueOffset;
use crate::health::SourceHealth;
use crate::membership::{Command, ResetReason};
use crate::report::Reporter;

/// Says what is met, and has it skipped if that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct CorruptHandler {
    policy: OnCorrupt,
    commands: Sender<Command>,
    health: Arc<SourceHealth>,
    reporter: Reporter,
}

impl CorruptHandler {
    pub(crate) fn new(
        policy: OnCorrupt,
        commands: Sender<Command>,
        health: Arc<SourceHealth>,
        reporter: Reporter,
    ) -> Self {
        Self { policy, commands, health, reporter }
    }

    /// The batch at `due` cannot be read, and why; it ends before `to`, if that can be told.
    pub(crate) fn met(&self, due: DueOffset, to: Option<i64>, error: &str) {
        let place = format!("{}: {error}", due.assignment);
        let reason = match (self.policy, to) {
            (OnCorrupt::Skip, Some(to)) => {
                self.reporter
                    .report(&format!("{place}; going on at offset {to} (on_corrupt = \"skip\")"));
                // If the membership has ended, nothing is read any more.
                let _ = self.commands.send(Command::ResetNeeded {
                    due,
                    to: Some(to),
                    reason: ResetReason::Corrupt,
                });
                return;
            }
            (OnCorrupt::Skip, None) => {
                format!(
                    "{place}; the partition stands still, for where the batch ends cannot be told"
                )
            }
            (OnCorrupt::Stop, _) => {
                format!("{place}; the partition stands still (on_corrupt = \"stop\")")
            }
        };
        self.reporter.report(&reason);
        self.health.set_corrupt(&due.assignment, due.offset, reason);
    }
}
