//! Partitions that the cluster no longer has, if there is no group to report it.
//!
//! A listing may lack what is there: a broker that has just started lists nothing, and a topic that
//! this relay may not see for a while is not gone. To let go of a partition is to read it from its
//! start when it comes back.

use std::collections::BTreeSet;

use crate::topic_partition::TopicPartition;
use crate::topics::Listing;

/// Partitions that the last listing lacked.
#[derive(Debug, Default)]
pub(super) struct AbsentPartitions(BTreeSet<TopicPartition>);

/// The time at which a partition that a listing lacks is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// The next listing, if it lacks it too: the fetcher sees by itself if it comes back as another
    /// one.
    Two,
    /// The first one: the fetcher would take another topic of the same name for it, and skip what
    /// it has.
    One,
}

impl AbsentPartitions {
    /// Takes a listing: those of `held` that are to be let go.
    pub(super) fn listed<'a>(
        &mut self,
        listing: &Listing,
        held: impl Iterator<Item = &'a TopicPartition>,
        patience: Patience,
    ) -> Vec<TopicPartition> {
        let lacking: BTreeSet<TopicPartition> = held
            .filter(|partition| !listing.has(partition) && !listing.hides(&partition.topic))
            .cloned()
            .collect();
        let before = std::mem::take(&mut self.0);
        let is_gone =
            |partition: &TopicPartition| patience == Patience::One || before.contains(partition);
        let (gone, lacking): (BTreeSet<_>, BTreeSet<_>) = lacking.into_iter().partition(is_gone);
        self.0 = lacking;
        gone.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::TopicFault;

    fn partition(topic: &str, number: i32) -> TopicPartition {
        TopicPartition::new(topic, number)
    }

    fn listing(topics: &[(&str, i32)], missing: &[(&str, TopicFault)]) -> Listing {
        Listing {
            topics: topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect(),
            missing: missing
                .iter()
                .map(|(topic, fault)| ((*topic).to_owned(), fault.clone()))
                .collect(),
        }
    }

    #[test]
    fn what_two_listings_in_a_row_lack_is_gone() {
        let held = [partition("a", 0), partition("a", 1), partition("b", 0)];
        let mut absent = AbsentPartitions::default();
        let both = listing(&[("a", 2), ("b", 1)], &[]);
        let none = Listing::default();
        for (listing, gone) in [
            (&both, vec![]),
            // A broker that has just started.
            (&none, vec![]),
            (&both, vec![]),
            (&none, vec![]),
            (&none, held.to_vec()),
        ] {
            assert_eq!(absent.listed(listing, held.iter(), Patience::Two), gone);
        }
        assert_eq!(absent.listed(&none, held.iter(), Patience::One), held);
    }

    #[test]
    fn what_may_not_be_seen_is_not_gone() {
        let held = [partition("a", 0), partition("b", 0)];
        let missing = [("a", TopicFault::NotAuthorized), ("b", TopicFault::Unknown)];
        for patience in [Patience::Two, Patience::One] {
            let mut absent = AbsentPartitions::default();
            let hidden = listing(&[], &missing);
            absent.listed(&hidden, held.iter(), patience);
            assert_eq!(
                absent.listed(&hidden, held.iter(), patience),
                [partition("b", 0)],
                "{patience:?}"
            );
        }
    }

    #[test]
    fn a_topic_that_came_back_smaller_loses_the_partitions_beyond() {
        let held = [partition("a", 0), partition("a", 1), partition("a", 2)];
        let mut absent = AbsentPartitions::default();
        let smaller = listing(&[("a", 1)], &[]);
        assert!(absent.listed(&smaller, held.iter(), Patience::Two).is_empty());
        assert_eq!(
            absent.listed(&smaller, held.iter(), Patience::Two),
            [partition("a", 1), partition("a", 2)]
        );
    }
}
