//! Which partitions the cluster has no more, where there is no group to tell.
//!
//! A listing may lack what is there: a broker that has just started lists nothing, and a topic that
//! this relay may not see for a while is not gone. To let go of a partition is to read it from its
//! start when it comes back.

use std::collections::BTreeSet;

use crate::client::Part;
use crate::topics::Listing;

/// Partitions that the last listing lacked.
#[derive(Debug, Default)]
pub(super) struct Absent(BTreeSet<Part>);

/// When one that a listing lacks is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Once the next listing lacks it too: the fetcher sees by itself if it comes back as another
    /// one.
    Two,
    /// At once: the fetcher would take another one of the same name for it, and skip what it has.
    One,
}

impl Absent {
    /// Takes a listing: those of `held` that are to be let go.
    pub(super) fn listed<'a>(
        &mut self,
        listing: &Listing,
        held: impl Iterator<Item = &'a Part>,
        patience: Patience,
    ) -> Vec<Part> {
        let lacking: BTreeSet<Part> =
            held.filter(|part| !listing.has(part) && !listing.hides(&part.0)).cloned().collect();
        let before = std::mem::take(&mut self.0);
        let is_gone = |part: &Part| patience == Patience::One || before.contains(part);
        let (gone, lacking): (BTreeSet<_>, BTreeSet<_>) = lacking.into_iter().partition(is_gone);
        self.0 = lacking;
        gone.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TopicFault;

    fn part(topic: &str, partition: i32) -> Part {
        (topic.to_owned(), partition)
    }

    fn listing(topics: &[(&str, i32)], missing: &[(&str, TopicFault)]) -> Listing {
        Listing {
            topics: topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect(),
            missing: missing
                .iter()
                .map(|(topic, fault)| ((*topic).to_owned(), fault.clone()))
                .collect(),
        }
    }

    #[test]
    fn what_two_listings_in_a_row_lack_is_gone() {
        let held = [part("a", 0), part("a", 1), part("b", 0)];
        let mut absent = Absent::default();
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
        let held = [part("a", 0), part("b", 0)];
        let missing = [("a", TopicFault::NotAuthorised), ("b", TopicFault::Unknown)];
        for patience in [Patience::Two, Patience::One] {
            let mut absent = Absent::default();
            let hidden = listing(&[], &missing);
            absent.listed(&hidden, held.iter(), patience);
            assert_eq!(
                absent.listed(&hidden, held.iter(), patience),
                [part("b", 0)],
                "{patience:?}"
            );
        }
    }

    #[test]
    fn a_topic_that_came_back_smaller_loses_the_partitions_beyond() {
        let held = [part("a", 0), part("a", 1), part("a", 2)];
        let mut absent = Absent::default();
        let smaller = listing(&[("a", 1)], &[]);
        assert!(absent.listed(&smaller, held.iter(), Patience::Two).is_empty());
        assert_eq!(
            absent.listed(&smaller, held.iter(), Patience::Two),
            [part("a", 1), part("a", 2)]
        );
    }
}
