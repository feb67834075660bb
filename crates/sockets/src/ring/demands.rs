//! All demand that is asked for, kept as subscriptions come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::demand::Demand;
use crate::subscriptions::Prefixes;

/// All demand that somebody asks for.
#[derive(Debug, Default)]
pub(super) struct Demands {
    by_frame: BTreeMap<Bytes, Arc<Demand>>,
    /// For any subscription.
    any: Option<Arc<Demand>>,
    /// Whether one became enough or too few since this was last asked.
    pub(super) changed: bool,
}

impl Demands {
    pub(super) fn get(&self, frame: Option<&Bytes>) -> Option<&Arc<Demand>> {
        match frame {
            Some(frame) => self.by_frame.get(frame),
            None => self.any.as_ref(),
        }
    }

    pub(super) fn insert(&mut self, frame: Option<Bytes>, demand: &Arc<Demand>) {
        // One that nobody else holds is not asked for any more.
        self.by_frame.retain(|_, demand| Arc::strong_count(demand) > 1);
        match frame {
            Some(frame) => drop(self.by_frame.insert(frame, Arc::clone(demand))),
            None => self.any = Some(Arc::clone(demand)),
        }
    }

    /// A peer is about to have a prefix that it did not have.
    pub(super) fn subscribe(&mut self, prefixes: &Prefixes, prefix: &[u8]) {
        self.by_prefix(prefixes, prefix, |peers| peers + 1);
    }

    /// A peer has a prefix no more.
    pub(super) fn cancel(&mut self, prefixes: &Prefixes, prefix: &[u8]) {
        self.by_prefix(prefixes, prefix, |peers| peers - 1);
    }

    /// Changes what the prefix concerns and the other prefixes do not.
    fn by_prefix(&mut self, prefixes: &Prefixes, prefix: &[u8], change: impl Fn(usize) -> usize) {
        let from = self
            .by_frame
            .range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        for (frame, demand) in from.take_while(|(frame, _)| frame.starts_with(prefix)) {
            if !prefixes.matches(frame) {
                self.changed |= demand.set(change(demand.peers()));
            }
        }
    }

    /// A peer with these prefixes has left.
    pub(super) fn leave(&mut self, prefixes: &Prefixes) {
        for (_, demand) in self.by_frame.iter().filter(|(frame, _)| prefixes.matches(frame)) {
            self.changed |= demand.set(demand.peers() - 1);
        }
    }

    /// So many peers have any subscription.
    pub(super) fn subscribed(&mut self, peers: usize) {
        if let Some(any) = &self.any {
            self.changed |= any.set(peers);
        }
    }
}
