//! Tickets of records that follow one another. A caller that numbers its records has few long runs,
//! so that no single record costs anything.

use super::Ticket;

/// Tickets, in the order of their records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tickets {
    runs: Vec<TicketRun>,
    len: usize,
}

/// Tickets of which each is one more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TicketRun {
    pub(super) first: Ticket,
    /// Number of tickets, at least one.
    pub(super) count: usize,
}

impl Tickets {
    #[inline]
    pub(super) fn push(&mut self, ticket: Ticket) {
        self.push_run(ticket, 1);
    }

    /// Adds as many tickets (at least one) that follow one another.
    #[inline]
    pub(super) fn push_run(&mut self, first: Ticket, count: usize) {
        self.len += count;
        if let Some(run) = self.runs.last_mut()
            && run.first.checked_add(run.count) == Some(first)
        {
            run.count += count;
        } else {
            self.runs.push(TicketRun { first, count });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.runs.iter().flat_map(|run| (0..run.count).map(|number| run.first + number))
    }

    pub(super) fn into_runs(self) -> std::vec::IntoIter<TicketRun> {
        self.runs.into_iter()
    }
}

impl FromIterator<Ticket> for Tickets {
    fn from_iter<I: IntoIterator<Item = Ticket>>(tickets: I) -> Self {
        let mut all = Self::default();
        tickets.into_iter().for_each(|ticket| all.push(ticket));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::produce::{Delivered, Deliveries, WriteError, Written};

    #[test]
    fn tickets_come_out_as_they_went_in() {
        for (list, runs) in [
            (vec![], 0),
            (vec![7], 1),
            (vec![7, 8, 9], 1),
            (vec![7, 9, 8, 9, 10], 3),
            (vec![3, 3], 2),
            (vec![Ticket::MAX, 0], 2),
        ] {
            let tickets: Tickets = list.iter().copied().collect();
            assert_eq!((tickets.len(), tickets.is_empty()), (list.len(), list.is_empty()));
            assert_eq!(tickets.iter().collect::<Vec<_>>(), list);
            assert_eq!(tickets.into_runs().len(), runs, "{list:?}");
        }
        let mut tickets = Tickets::default();
        for (first, count) in [(7, 1), (8, 3), (12, 2), (14, 1), (3, 2)] {
            tickets.push_run(first, count);
        }
        let one_by_one: Tickets = [7, 8, 9, 10, 12, 13, 14, 3, 4].into_iter().collect();
        assert_eq!(tickets, one_by_one);
    }

    #[test]
    fn deliveries_are_told_by_run_and_one_by_one() {
        let written = |offset| Ok(Written { partition: 3, offset, log_append_time: None });
        let offset_of = |outcome: Result<Written, WriteError>| outcome.unwrap().offset;
        for first in [Some(100), None] {
            let all = || Deliveries::new([5, 6, 7, 20, 21].into_iter().collect(), written(first));
            let offset = |more| first.map(|first| first + more);
            let mut one_by_one = all();
            let told: Vec<_> = one_by_one
                .by_ref()
                .map(|delivery| (delivery.ticket, offset_of(delivery.outcome)))
                .collect();
            let expected =
                [(5, offset(0)), (6, offset(1)), (7, offset(2)), (20, offset(3)), (21, offset(4))];
            assert_eq!(told, expected);
            assert!(one_by_one.next_run().is_none());
            let mut runs = all();
            assert_eq!(runs.len(), 5);
            assert_eq!(runs.next().map(|delivery| delivery.ticket), Some(5));
            let told: Vec<_> = std::iter::from_fn(|| runs.next_run())
                .map(|Delivered { first, count, outcome }| (first, count, offset_of(outcome)))
                .collect();
            assert_eq!(told, [(6, 2, offset(1)), (20, 2, offset(3))]);
            assert_eq!(runs.len(), 0);
        }
    }
}
