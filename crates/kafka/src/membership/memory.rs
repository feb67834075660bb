//! The state of a source's partitions that outlives one client.

use std::collections::HashMap;

use uuid::Uuid;

use crate::health::MembershipHealth;
use crate::topic_partition::TopicPartition;
use crate::topics::{InitialPartitions, Listing};

#[derive(Debug)]
pub(super) struct Memory {
    /// The topics that the cluster had when it was asked last.
    pub(super) listing: Listing,
    pub(super) initial: InitialPartitions,
    /// The offsets that were committed of partitions that were lost: should the group have
    /// forgotten them, the partitions go on there. With the id of the topic that each is of: the
    /// group may have forgotten it with the topic, and another one has the name by now.
    pub(super) committed: HashMap<TopicPartition, (i64, Uuid)>,
    pub(super) health: MembershipHealth,
    /// The last id that was given, so that an answer that comes late is none for a later client.
    last_id: u64,
}

impl Memory {
    pub(super) fn new(listing: Listing) -> Self {
        Self {
            initial: InitialPartitions::new(&listing.topics),
            listing,
            committed: HashMap::new(),
            health: MembershipHealth::default(),
            last_id: 0,
        }
    }

    /// Begins in another cluster: nothing that was known counts there.
    pub(super) fn move_to(&mut self, listing: Listing) {
        let Self { health, last_id, .. } = std::mem::replace(self, Self::new(listing));
        (self.health, self.last_id) = (health, last_id);
    }

    pub(super) fn listed(&mut self, listing: Listing) {
        self.initial.listed(&listing);
        self.committed.retain(|of, _| !listing.lacks(&of.topic));
        self.listing = listing;
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Sets why the group does not have this member. Returns whether that is news.
    pub(super) fn set_group_fault(&mut self, fault: Option<String>) -> bool {
        let is_news = fault.is_some() && self.health.group_fault != fault;
        self.health.group_fault = fault;
        is_news
    }
}
