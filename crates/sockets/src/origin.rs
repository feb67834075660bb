//! Origins: the streams of messages that a ring delivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::demand::Demand;
use crate::label::Label;

/// The stream that a chunk's messages come from, and how far they were delivered. One for each
/// assignment of a partition.
///
/// The ring knows it only as a number that grows and a flag; what the number means is the route's
/// affair.
#[derive(Debug)]
pub struct Origin {
    delivered: AtomicI64,
    withdrawn: AtomicBool,
    demand: Option<Arc<Demand>>,
    label: Option<Label>,
    /// True if there was something that too few peers were owed: it is to be published again, by
    /// another origin.
    short: AtomicBool,
}

impl Origin {
    /// An origin that was delivered up to `position`.
    pub fn new(position: i64) -> Arc<Self> {
        Self::with(position, None, None)
    }

    /// The same. With a demand, what is in the ring at any moment at which too few peers want it
    /// does not count as delivered, nor does what follows it. With a label, peers with rights to it
    /// may have its messages.
    pub fn with(position: i64, demand: Option<Arc<Demand>>, label: Option<Label>) -> Arc<Self> {
        let (withdrawn, short) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { delivered: AtomicI64::new(position), withdrawn, demand, label, short })
    }

    /// Returns true if its position does not advance, because too few peers wanted something that
    /// it published.
    pub fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// The label of its messages.
    pub(crate) fn label(&self) -> Option<&Label> {
        self.label.as_ref()
    }

    /// Returns [`Demand::epoch`]; 0 without a demand.
    pub(crate) fn epoch(&self) -> u64 {
        self.demand.as_ref().map_or(0, |demand| demand.epoch())
    }

    /// The position up to which everything was accepted by the kernel for every peer owed it, or
    /// dropped by policy.
    pub fn delivered(&self) -> i64 {
        self.delivered.load(Ordering::Acquire)
    }

    /// Returns true if its messages were taken out of the ring.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// Takes note that everything before `position` is delivered, unless its messages were taken
    /// out or too few wanted some of them. The ring calls it chunk by chunk.
    pub fn deliver(&self, position: i64) {
        if !self.is_withdrawn() && !self.is_short() {
            self.delivered.store(position, Ordering::Release);
        }
    }

    /// Takes note of the same for messages that were published in an epoch of its demand. If too
    /// few peers wanted them, or the demand is another by now, its position does not advance.
    pub(crate) fn deliver_of(&self, epoch: u64, position: i64) {
        let is_short = epoch != self.epoch() || !epoch.is_multiple_of(2);
        if is_short && !zafka_planted::is("short-counts-as-delivered") {
            self.short.store(true, Ordering::Release);
        }
        self.deliver(position);
    }

    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }
}
