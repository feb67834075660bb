//! The reading of a peer, and how far it has come: plain state machines over counts of bytes.

/// Bytes that a peer must have acknowledged to have taken something: less is our PINGs alone.
const PROGRESS: u64 = 1024;

/// The progress of a peer's reading, as its answers to our PINGs show it. All in bytes of messages
/// that were written to it.
#[derive(Debug, Default)]
pub(crate) struct ReadMark {
    at_ping: u64,
    read: u64,
}

impl ReadMark {
    /// A PING was written after so many bytes.
    pub(crate) fn pinged(&mut self, written: u64) {
        self.at_ping = written;
    }

    /// Every PING was answered: what stood before the last was read.
    pub(crate) fn answered(&mut self) {
        self.read = self.at_ping;
    }

    /// Returns true if the peer may have yet to read some of `written` bytes.
    pub(crate) fn may_be_full(&self, written: u64) -> bool {
        self.read != written
    }
}

/// The progress of a peer that is asked whenever it should have sent something.
#[derive(Debug, Default)]
pub(crate) struct Progress(u64);

impl Progress {
    /// Begins again at `taken` bytes.
    pub(crate) fn begin(&mut self, taken: u64) {
        self.0 = taken;
    }

    /// Returns true if the peer has taken something since the last call.
    pub(crate) fn made(&mut self, taken: u64) -> bool {
        taken.saturating_sub(std::mem::replace(&mut self.0, taken)) >= PROGRESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_the_last_answer_may_be_unread() {
        let mut mark = ReadMark::default();
        assert!(!mark.may_be_full(0));
        assert!(mark.may_be_full(100), "no PING has been answered");
        mark.pinged(100);
        assert!(mark.may_be_full(100));
        mark.answered();
        assert!(!mark.may_be_full(100) && mark.may_be_full(101));
    }

    #[test]
    fn a_ping_of_ours_that_arrives_is_no_progress() {
        let mut progress = Progress::default();
        progress.begin(5000);
        assert!(!progress.made(5009));
        assert!(progress.made(5009 + PROGRESS) && !progress.made(5009 + PROGRESS));
    }
}
