//! Under which leaders' epochs the records of a partition were written, by which a cut log is noticed (KIP-320).

use parking_lot::Mutex;

/// Changes that are remembered. Leaders change seldom, and who has forgotten an epoch claims none.
const MOST: usize = 64;

/// Offsets, each with the epoch of the records from there on; both rise.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<Vec<(i64, i32)>>);

impl Epochs {
    /// The records from `offset` on are of `epoch`, until another one is told.
    pub(crate) fn note(&self, offset: i64, epoch: i32) {
        let mut changes = self.0.lock();
        let known = changes.iter().rev().find(|(from, _)| *from <= offset);
        if known.is_some_and(|(_, known)| *known == epoch) {
            return;
        }
        // What was known from here on was of another reading of the log.
        changes.retain(|(from, known)| *from < offset && *known < epoch);
        changes.push((offset, epoch));
        if changes.len() > MOST {
            changes.remove(0);
        }
    }

    /// The epoch of the record before `offset`; -1 where it is not known.
    pub(crate) fn before(&self, offset: i64) -> i32 {
        let changes = self.0.lock();
        changes.iter().rev().find(|(from, _)| *from < offset).map_or(-1, |(_, epoch)| *epoch)
    }

    /// Where the records of `epoch`, and of those before it, end.
    pub(crate) fn end_of(&self, epoch: i32) -> Option<i64> {
        self.0.lock().iter().find(|(_, later)| *later > epoch).map(|(from, _)| *from)
    }

    /// The log goes on at `to`, below what was read or beyond it.
    pub(crate) fn go_on(&self, from: i64, to: i64) {
        let mut changes = self.0.lock();
        if to < from {
            changes.retain(|(offset, _)| *offset < to);
        } else {
            changes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> Epochs {
        let epochs = Epochs::default();
        for (offset, epoch) in [(10, 3), (20, 3), (30, 5), (40, 5), (50, 8)] {
            epochs.note(offset, epoch);
        }
        epochs
    }

    #[test]
    fn a_record_is_of_the_epoch_that_was_told_last_before_it() {
        let epochs = read();
        let before = [(10, -1), (11, 3), (30, 3), (31, 5), (50, 5), (51, 8), (1000, 8)];
        for (offset, epoch) in before {
            assert_eq!(epochs.before(offset), epoch, "{offset}");
        }
        assert_eq!(
            [2, 3, 4, 5, 8].map(|epoch| epochs.end_of(epoch)),
            [Some(10), Some(30), Some(30), Some(50), None]
        );
    }

    #[test]
    fn a_log_that_was_cut_is_told_anew() {
        let epochs = read();
        epochs.go_on(60, 35);
        assert_eq!(epochs.before(35), 5);
        epochs.note(35, 9);
        assert_eq!((epochs.before(35), epochs.before(36), epochs.end_of(5)), (5, 9, Some(35)));
        // Read again from before: the same records, or others.
        epochs.note(32, 9);
        assert_eq!((epochs.before(32), epochs.before(33)), (5, 9));
        epochs.go_on(60, 100);
        assert_eq!(epochs.before(100), -1, "nobody knows what was skipped");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let epochs = Epochs::default();
        for at in 0..1000 {
            epochs.note(i64::from(at) * 10, at);
        }
        assert_eq!(epochs.0.lock().len(), MOST);
        assert_eq!((epochs.before(9_995), epochs.before(5)), (999, -1));
    }
}
