//! Resets: a partition resumes at another offset than the one it was to be fetched at.

use std::sync::Arc;

use crate::assignment::Assignment;

/// An offset that was to be fetched and cannot be.
#[derive(Clone, Debug)]
pub(crate) struct DueOffset {
    pub(crate) assignment: Arc<Assignment>,
    /// Number of the generation that it was due in.
    pub(crate) generation: u32,
    pub(crate) offset: i64,
}

impl DueOffset {
    /// The offset at which a partition stands.
    pub(crate) fn of(assignment: &Arc<Assignment>) -> Self {
        let (generation, offset) = assignment.reading().place();
        Self { assignment: Arc::clone(assignment), generation: generation.number, offset }
    }

    /// Returns true while it is current: the partition is assigned, and no other generation has
    /// begun.
    pub(crate) fn is_now(&self) -> bool {
        self.assignment.is_active() && self.assignment.is_read_as(self.generation)
    }
}

/// The reason of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetReason {
    /// The log does not have the offset: retention took it, or it lies past the end.
    OutOfRange,
    /// The log was truncated by an unclean leader election (KIP-320).
    Truncated,
    /// The topic is another one of the same name (KIP-516).
    Recreated,
    /// A batch cannot be read, and is skipped.
    Corrupt,
}

impl ResetReason {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::OutOfRange => "fetch offset out of range; resuming at the earliest offset",
            Self::Truncated => "log truncated below fetch offset; resuming at the truncation point",
            Self::Corrupt => "corrupt batch; resuming after it",
            Self::Recreated => "topic recreated (new topic id); resuming from its start",
        }
    }
}
