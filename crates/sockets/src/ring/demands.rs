//! All demand that is asked for, kept as subscriptions come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::demand::Demand;
use crate::label::Label;
use crate::subscriptions::Prefixes;

/// All demand that is asked for.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// Demand by routing frame and label.
    by_frame: BTreeMap<(Bytes, Option<u32>), Demanded>,
    /// Demand for any subscription, by label.
    any: BTreeMap<Option<u32>, Demanded>,
    /// True if one became enough or too few since the last call that took it.
    pub(super) changed: bool,
}

#[derive(Debug)]
struct Demanded {
    label: Option<Label>,
    demand: Arc<Demand>,
}

impl Demanded {
    /// Counts one more or one less. Returns whether they became enough or too few by it.
    fn count(&self, more: bool) -> bool {
        let peers = self.demand.peers();
        self.demand.set(if more { peers + 1 } else { peers.saturating_sub(1) })
    }

    /// Returns true if it is held elsewhere: one that is not will no longer be asked for.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.demand) > 1
    }
}

impl Demands {
    pub(super) fn get(&self, frame: Option<&Bytes>, label: Option<&Label>) -> Option<&Arc<Demand>> {
        let number = label.map(Label::number);
        let found = match frame {
            Some(frame) => self.by_frame.get(&(frame.clone(), number)),
            None => self.any.get(&number),
        };
        found.map(|demanded| &demanded.demand)
    }

    pub(super) fn insert(
        &mut self,
        frame: Option<Bytes>,
        label: Option<&Label>,
        demand: &Arc<Demand>,
    ) {
        self.by_frame.retain(|_, demanded| demanded.is_held());
        self.any.retain(|_, demanded| demanded.is_held());
        let number = label.map(Label::number);
        let demanded = Demanded { label: label.cloned(), demand: Arc::clone(demand) };
        match frame {
            Some(frame) => drop(self.by_frame.insert((frame, number), demanded)),
            None => drop(self.any.insert(number, demanded)),
        }
    }

    /// Handles a prefix that a peer is about to have and did not have. `may_have` gives its rights.
    pub(super) fn subscribe(
        &mut self,
        prefixes: &Prefixes,
        prefix: &[u8],
        may_have: impl Fn(Option<&Label>) -> bool,
    ) {
        self.by_prefix(prefixes, prefix, may_have, true);
    }

    /// A peer has a prefix no more.
    pub(super) fn cancel(
        &mut self,
        prefixes: &Prefixes,
        prefix: &[u8],
        may_have: impl Fn(Option<&Label>) -> bool,
    ) {
        self.by_prefix(prefixes, prefix, may_have, false);
    }

    /// Changes what the prefix concerns and the other prefixes do not.
    fn by_prefix(
        &mut self,
        prefixes: &Prefixes,
        prefix: &[u8],
        may_have: impl Fn(Option<&Label>) -> bool,
        more: bool,
    ) {
        if self.by_frame.is_empty() {
            return;
        }
        let from = self.by_frame.range((Bytes::copy_from_slice(prefix), None)..);
        for ((frame, _), demanded) in from.take_while(|((frame, _), _)| frame.starts_with(prefix)) {
            if !prefixes.matches(frame) && may_have(demanded.label.as_ref()) {
                self.changed |= demanded.count(more);
            }
        }
    }

    /// A peer with these prefixes has left.
    pub(super) fn leave(&mut self, prefixes: &Prefixes, may_have: impl Fn(Option<&Label>) -> bool) {
        for ((frame, _), demanded) in &self.by_frame {
            if prefixes.matches(frame) && may_have(demanded.label.as_ref()) {
                self.changed |= demanded.count(false);
            }
        }
    }

    /// A peer has its first subscription, or none any more.
    pub(super) fn count_any(&mut self, may_have: impl Fn(Option<&Label>) -> bool, more: bool) {
        for demanded in self.any.values() {
            if may_have(demanded.label.as_ref()) {
                self.changed |= demanded.count(more);
            }
        }
    }
}
