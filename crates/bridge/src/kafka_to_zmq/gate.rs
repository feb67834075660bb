//! Opens a partition to its subscribers: only while as many peers as `min_peers` says want it.
//!
//! A plain state machine: it takes the facts of a moment, and returns what is to be done.

use std::time::{Duration, Instant};

/// Time for which a partition that too few want waits for them before it is let go. A subscriber
/// that connects again is not to cost a new reading each time.
const GRACE: Duration = Duration::from_secs(1);

/// The action that a partition needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Take what is unsent out of the ring and fetch no more.
    Hold,
    /// Read it again from the delivered position.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GateStage {
    Open,
    /// Fewer peers want it than have to; nothing is encoded meanwhile.
    Short(Instant),
    Held,
}

/// The gate of a partition.
#[derive(Debug)]
pub(crate) struct Gate {
    stage: GateStage,
    /// True if records were thrown away since it was open.
    missed: bool,
}

impl Gate {
    /// The gate of a partition of which nothing was read yet: held unless there are enough that
    /// want it.
    pub(crate) fn new(enough: bool) -> Self {
        Self { stage: if enough { GateStage::Open } else { GateStage::Held }, missed: false }
    }

    /// Returns true if records may be encoded.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == GateStage::Open
    }

    /// Records came while it was not open, and were thrown away.
    pub(crate) fn miss(&mut self) {
        self.missed = true;
    }

    /// Takes whether there are enough now; `owed` is true if something was published that too few
    /// were owed.
    pub(crate) fn look(&mut self, enough: bool, owed: bool, now: Instant) -> Option<Act> {
        let again = owed || self.missed;
        match self.stage {
            GateStage::Open if !enough => self.stage = GateStage::Short(now),
            GateStage::Open if again => {
                // They were too few for a moment between two looks.
                self.stage = GateStage::Short(now);
                return Some(Act::Open);
            }
            GateStage::Short(_) if enough && !again => self.stage = GateStage::Open,
            GateStage::Short(_) | GateStage::Held if enough => return Some(Act::Open),
            GateStage::Short(since) if now - since >= GRACE => {
                self.stage = GateStage::Held;
                return Some(Act::Hold);
            }
            GateStage::Open | GateStage::Short(_) | GateStage::Held => {}
        }
        None
    }

    /// It is read again from the delivered position.
    pub(crate) fn opened(&mut self) {
        *self = Self { stage: GateStage::Open, missed: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look after so many ms: enough, owed; the action; whether it is open then.
    type Look = (u64, bool, bool, Option<Act>, bool);

    #[test]
    fn opens_and_holds() {
        let cases: [(&str, bool, &[Look]); 8] = [
            (
                "nobody yet",
                false,
                &[(0, false, false, None, false), (9000, false, false, None, false)],
            ),
            (
                "the first comes",
                false,
                &[(5, true, false, Some(Act::Open), true), (10, true, false, None, true)],
            ),
            (
                "enough all along",
                true,
                &[(0, true, false, None, true), (9000, true, false, None, true)],
            ),
            (
                "they leave",
                true,
                &[
                    (0, false, false, None, false),
                    (999, false, false, None, false),
                    (1000, false, true, Some(Act::Hold), false),
                    (5000, false, true, None, false),
                    (6000, true, true, Some(Act::Open), true),
                ],
            ),
            (
                "one comes again while nothing was owed",
                true,
                &[(0, false, false, None, false), (500, true, false, None, true)],
            ),
            (
                "one comes again, and something was owed",
                true,
                &[(0, false, true, None, false), (500, true, true, Some(Act::Open), true)],
            ),
            ("a moment that nobody saw", true, &[(0, true, true, Some(Act::Open), true)]),
            (
                "each absence has its own second",
                true,
                &[
                    (0, false, false, None, false),
                    (900, true, false, None, true),
                    (1000, false, false, None, false),
                    (1900, false, false, None, false),
                    (2000, false, false, Some(Act::Hold), false),
                ],
            ),
        ];
        let start = Instant::now();
        for (name, enough, looks) in cases {
            let mut gate = Gate::new(enough);
            for (at, enough, owed, act, open) in looks {
                let now = start + Duration::from_millis(*at);
                assert_eq!(gate.look(*enough, *owed, now), *act, "{name}, {at} ms");
                if *act == Some(Act::Open) {
                    assert!(!gate.is_open(), "{name}: not before it is read again");
                    gate.opened();
                }
                assert_eq!(gate.is_open(), *open, "{name}, {at} ms");
            }
        }
    }

    #[test]
    fn what_was_thrown_away_is_read_again() {
        let mut gate = Gate::new(true);
        let now = Instant::now();
        assert_eq!(gate.look(false, false, now), None);
        gate.miss();
        // Until that has come about, however often it is looked at.
        for _ in 0..2 {
            assert_eq!(gate.look(true, false, now), Some(Act::Open));
        }
        gate.opened();
        assert_eq!(gate.look(true, false, now), None);
    }
}
