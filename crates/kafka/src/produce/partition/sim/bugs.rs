//! Mistakes that a producer may make, planted: the judge must find each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_protocol::ResponseError as Code;

use super::super::State;
use super::{Answer, World, run};
use crate::produce::{Deliveries, WriteError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    AcknowledgedBeforeAllReplicasHaveIt,
    SecondRequestBeforeTheFirstAnswer,
    SequenceGivenBeforeTheSeal,
    BufferUsedAgainInFlight,
    WrittenAgainWithOtherBoundaries,
    WrittenAgainUnderAnotherSequence,
    UnknownToldAsFailed,
    OffsetOfTheBatchBefore,
    SentAgainInAnotherOrder,
    NeverTold,
}

impl Bug {
    const ALL: [Self; 10] = [
        Self::AcknowledgedBeforeAllReplicasHaveIt,
        Self::SecondRequestBeforeTheFirstAnswer,
        Self::SequenceGivenBeforeTheSeal,
        Self::BufferUsedAgainInFlight,
        Self::WrittenAgainWithOtherBoundaries,
        Self::WrittenAgainUnderAnotherSequence,
        Self::UnknownToldAsFailed,
        Self::OffsetOfTheBatchBefore,
        Self::SentAgainInAnotherOrder,
        Self::NeverTold,
    ];
}

impl World {
    /// Plants mistakes before requests are sent.
    pub(super) fn plant_before_sending(&mut self) {
        let partition = &mut self.partition;
        match self.bug {
            Some(Bug::SecondRequestBeforeTheFirstAnswer) if partition.state == State::Probing => {
                partition.state = State::Open;
            }
            Some(Bug::SequenceGivenBeforeTheSeal) if partition.open.is_some() => {
                // As if a record had joined the batch after it got its sequence.
                partition.next_sequence = (partition.next_sequence - 1).max(0);
            }
            Some(Bug::SentAgainInAnotherOrder) if partition.in_flight == 0 => {
                partition.sealed.make_contiguous().reverse();
            }
            _ => {}
        }
    }

    /// Plants mistakes after requests were lost.
    pub(super) fn plant_after_loss(&mut self) {
        let partition = &mut self.partition;
        let divides = match self.bug {
            Some(Bug::WrittenAgainWithOtherBoundaries) => true,
            Some(Bug::WrittenAgainUnderAnotherSequence) => false,
            _ => return,
        };
        for batch in &mut partition.sealed {
            batch.may_be_written = false;
            batch.is_to_be_divided = divides && batch.count > 1;
        }
        if !partition.sealed.is_empty() {
            partition.begin_rebuild(super::super::Cause::GivenUp);
            partition.settle();
        }
    }

    /// Plants mistakes in an answer on its way.
    pub(super) fn plant_in_answer(&self, answer: &mut Answer) {
        let is_late = matches!(
            answer.error,
            Some(Code::RequestTimedOut | Code::NotEnoughReplicasAfterAppend)
        );
        match self.bug {
            Some(Bug::AcknowledgedBeforeAllReplicasHaveIt) if is_late => answer.error = None,
            Some(Bug::OffsetOfTheBatchBefore) if answer.base_offset > 0 => answer.base_offset -= 1,
            _ => {}
        }
    }

    /// Plants mistakes in outcomes on their way to the judge.
    pub(super) fn plant_in_deliveries(&mut self, deliveries: Deliveries) -> Option<Deliveries> {
        let is_unknown = matches!(deliveries.outcome, Err(WriteError::Unknown(_)));
        match self.bug {
            Some(Bug::UnknownToldAsFailed) if is_unknown => {
                let tickets = deliveries.map(|delivery| delivery.ticket).collect();
                Some(Deliveries::new(tickets, Err(WriteError::NotAllowed("no".to_owned()))))
            }
            Some(Bug::NeverTold) if self.random.one_in(50) => None,
            _ => Some(deliveries),
        }
    }
}

#[test]
fn each_planted_mistake_is_found() {
    for bug in Bug::ALL {
        let is_found =
            |seed: &u64| catch_unwind(AssertUnwindSafe(|| run(*seed, Some(bug)))).is_err();
        assert!((0..500).any(|seed| is_found(&seed)), "{bug:?} is not found");
    }
}
