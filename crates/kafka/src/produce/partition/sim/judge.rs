//! The outcomes of records, compared with the log.

use std::collections::HashMap;

use super::cluster::Cluster;
use crate::produce::{Deliveries, Delivery, Ticket, WriteError, Written};

/// The outcome of each record.
#[derive(Default)]
pub(super) struct Judge(HashMap<Ticket, Result<Written, WriteError>>);

/// The number of records with each outcome.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) written: usize,
    pub(super) duplicates: usize,
    pub(super) unknown: usize,
    pub(super) failed: usize,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.duplicates += other.duplicates;
        self.unknown += other.unknown;
        self.failed += other.failed;
    }
}

impl Judge {
    pub(super) fn hear(&mut self, deliveries: Deliveries) {
        for Delivery { ticket, outcome } in deliveries {
            assert!(self.0.insert(ticket, outcome).is_none(), "{ticket} was told twice");
        }
    }

    pub(super) fn judge(&self, records: Ticket, cluster: &Cluster) -> Outcome {
        let mut places: HashMap<Ticket, Vec<i64>> = HashMap::new();
        for (offset, ticket) in cluster.tickets() {
            places.entry(ticket).or_default().push(offset);
        }
        let mut told = Outcome::default();
        let mut last = -1;
        for ticket in 0..records {
            let outcome = self.0.get(&ticket).unwrap_or_else(|| panic!("{ticket} was not told"));
            let found = places.get(&ticket).map_or(&[][..], Vec::as_slice);
            // What was deleted may have been written again.
            let there = found.iter().filter(|offset| **offset >= cluster.start()).count();
            assert!(there <= 1, "{ticket} is in the log at {found:?}");
            match outcome {
                Ok(written) => {
                    told.written += 1;
                    told.duplicates += usize::from(written.offset.is_none());
                    let place = written.offset.or(found.last().copied()).unwrap_or(-1);
                    assert!(found.contains(&place), "{ticket} is told at {place}: {found:?}");
                    assert!(
                        place > last,
                        "{ticket} is at {place} of {found:?}, one before it at {last}, start {}",
                        cluster.start()
                    );
                    last = place;
                }
                Err(WriteError::Unknown(_)) => told.unknown += 1,
                Err(error) => {
                    told.failed += 1;
                    assert!(found.is_empty(), "{ticket} was told failed ({error}): {found:?}");
                }
            }
        }
        told
    }
}
