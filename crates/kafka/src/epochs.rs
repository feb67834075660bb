//! The leader epochs of the records read so far. A leader compares them with its own log to detect
//! truncation (KIP-320).

use parking_lot::Mutex;

/// Changes that are remembered. Leaders change seldom, and a client that has forgotten an epoch
/// claims none.
const MOST: usize = 64;

/// The epochs of the records that were read, as far as the fetcher that read them reports epochs.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Mutex<EpochHistory>);

#[derive(Debug, Default)]
struct EpochHistory {
    /// Offsets, each with the epoch of the records from there on; both rise.
    changes: Vec<(i64, i32)>,
    /// The offset from which on nothing is known of the records.
    end: i64,
    /// The epoch of the last record when the log was truncated last, and where.
    truncated: Option<(i32, i64)>,
    /// An offset at which a leader says that the log was truncated, and its epoch of the record
    /// before it.
    told: Option<(i64, i32)>,
}

impl Epochs {
    /// The records from `offset` on are of `epoch`, until `end` or until another one is reported.
    pub(crate) fn note(&self, offset: i64, end: i64, epoch: i32) {
        let EpochHistory { changes, end: known_end, .. } = &mut *self.0.lock();
        *known_end = end.max(*known_end);
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

    /// The epoch of the record before `offset`; -1 if it is not known.
    pub(crate) fn before(&self, offset: i64) -> i32 {
        let EpochHistory { changes, end, .. } = &*self.0.lock();
        let known = changes.iter().rev().find(|(from, _)| *from < offset && offset <= *end);
        known.map_or(-1, |(_, epoch)| *epoch)
    }

    /// Returns the end of the records of `epoch`, and of those before it.
    pub(crate) fn end_of(&self, epoch: i32) -> Option<i64> {
        self.0.lock().changes.iter().find(|(_, later)| *later > epoch).map(|(from, _)| *from)
    }

    /// A leader says that the log was truncated at `offset`, and that the record before it is of
    /// `epoch`: that counts once the partition resumes there.
    pub(crate) fn told(&self, offset: i64, epoch: i32) {
        self.0.lock().told = Some((offset, epoch));
    }

    /// The log was truncated at `offset`. If nothing that was read is left of it, the epoch of the
    /// record before is the one that the leader told: without it, an offset that is committed now
    /// would hide the next truncation.
    pub(crate) fn truncate(&self, offset: i64) {
        let EpochHistory { changes, end, truncated, told } = &mut *self.0.lock();
        *truncated = changes.last().map(|(_, epoch)| (*epoch, offset));
        changes.retain(|(from, _)| *from < offset);
        *end = offset.min(*end);
        if let Some((at, epoch)) = told.take()
            && changes.is_empty()
            && at == offset
            && epoch >= 0
        {
            changes.push((offset - 1, epoch));
            *end = offset;
        }
    }

    /// Returns true if the log was truncated there last when its last record was of `epoch`. A log
    /// that goes on after a truncation does so in a later epoch: a second report of the same one is
    /// none.
    pub(crate) fn was_truncated(&self, epoch: i32, offset: i64) -> bool {
        self.0.lock().truncated == Some((epoch, offset))
    }

    /// The log is another one, or what comes next is not known.
    pub(crate) fn forget(&self) {
        *self.0.lock() = EpochHistory::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> Epochs {
        let epochs = Epochs::default();
        for (offset, epoch) in [(10, 3), (20, 3), (30, 5), (40, 5), (50, 8)] {
            epochs.note(offset, offset + 10, epoch);
        }
        epochs
    }

    #[test]
    fn a_record_is_of_the_epoch_that_was_told_last_before_it() {
        let epochs = read();
        let before = [(10, -1), (11, 3), (30, 3), (31, 5), (50, 5), (51, 8), (60, 8)];
        for (offset, epoch) in before {
            assert_eq!(epochs.before(offset), epoch, "{offset}");
        }
        assert_eq!(epochs.before(61), -1, "who read on did not tell");
        let ends = [2, 3, 4, 5, 8].map(|epoch| epochs.end_of(epoch));
        assert_eq!(ends, [Some(10), Some(30), Some(30), Some(50), None]);
    }

    #[test]
    fn a_log_that_was_cut_is_told_anew() {
        let epochs = read();
        epochs.truncate(35);
        assert_eq!((epochs.before(35), epochs.before(36)), (5, -1));
        epochs.note(35, 40, 9);
        assert_eq!((epochs.before(35), epochs.before(36), epochs.end_of(5)), (5, 9, Some(35)));
        // Read again from before: the same records, or others.
        epochs.note(32, 40, 9);
        assert_eq!((epochs.before(32), epochs.before(33)), (5, 9));
        epochs.forget();
        assert_eq!((epochs.before(33), epochs.end_of(0)), (-1, None));
    }

    /// The epochs of what is left of the log, what a leader told, and the epoch before the offset
    /// where the log was truncated.
    #[test]
    fn where_nothing_is_left_the_leaders_epoch_counts() {
        for (truncated_at, told, expected) in [
            (35, Some((35, 4)), 5),
            (7, Some((7, 2)), 2),
            (7, None, -1),
            // Of another answer.
            (7, Some((6, 2)), -1),
            (7, Some((7, -1)), -1),
        ] {
            let epochs = read();
            if let Some((offset, epoch)) = told {
                epochs.told(offset, epoch);
            }
            epochs.truncate(truncated_at);
            assert_eq!(epochs.before(truncated_at), expected, "{truncated_at} {told:?}");
            assert_eq!(epochs.before(truncated_at + 1), -1);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let epochs = Epochs::default();
        for at in 0..1000 {
            epochs.note(i64::from(at) * 10, i64::from(at + 1) * 10, at);
        }
        assert_eq!(epochs.0.lock().changes.len(), MOST);
        assert_eq!((epochs.before(9_995), epochs.before(5)), (999, -1));
    }
}
