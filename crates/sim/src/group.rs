//! The model of a group's coordinator: which relay has which partition, and what is committed.

use std::collections::BTreeMap;

use crate::cluster::Partition;

/// A committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to be read.
    pub offset: i64,
    /// The epoch of the record before it; -1 if it is not known.
    pub epoch: i32,
}

/// A group.
#[derive(Debug, Default)]
pub struct Group {
    /// The committed offsets.
    pub committed: BTreeMap<Partition, Committed>,
    /// The relay that has each partition, if one has.
    pub owners: BTreeMap<Partition, Option<usize>>,
    /// The relay that is to have it next, once it is given back.
    pub next: BTreeMap<Partition, usize>,
    /// True if the coordinator refuses commits, which are then to be tried again.
    pub is_loading: bool,
}
