//! The fate of messages, and the order in which it is told.

use std::ops::Range;

use super::*;
use crate::zmq_to_kafka::wire::{Batch, BatchPart, Code};

fn written(offset: i64) -> Result<Written, WriteError> {
    Ok(Written { partition: 1, offset: Some(offset), log_append_time: None })
}

fn names(out: &mut Vec<Told<&'static str>>) -> Vec<&'static str> {
    let name = |told| match told {
        Told::Message(settled) => settled.message,
        Told::Run(_) => "run",
    };
    out.drain(..).map(name).collect()
}

/// The outcome of the only message that was told.
fn outcome(out: &mut Vec<Told<&'static str>>) -> Result<Place, Failure> {
    match (out.pop(), out.pop()) {
        (Some(Told::Message(settled)), None) => settled.outcome,
        other => panic!("{other:?}"),
    }
}

/// The numbers of the messages that were told, each run with its offset or none.
fn runs(out: &mut Vec<Told<&'static str>>) -> Vec<(ArrivalId, Range<usize>, Option<i64>)> {
    let run = |told| match told {
        Told::Message(settled) => (usize::MAX, 0..0, settled.outcome.is_ok().then_some(-1)),
        Told::Run(Run { arrival, messages, outcome, .. }) => {
            (arrival, messages, outcome.ok().and_then(|written| written.offset))
        }
    };
    out.drain(..).map(run).collect()
}

fn delivered(first: Ticket, count: usize, offset: i64) -> Delivered {
    Delivered { first, count, outcome: written(offset) }
}

fn failure() -> Failure {
    Failure::new(Code::BadMessage, "no")
}

#[test]
fn answers_without_ids_keep_the_order_of_each_sender() {
    let mut ledger = Ledger::new(Order::OfMessages, false);
    let mut out = Vec::new();
    let [a, b] = ["a", "b"].map(|name| ledger.enter(name, 1, Some("t".into()), 5, 1));
    let other = ledger.enter("other", 2, Some("t".into()), 5, 1);
    ledger.settle_now("refused", 1, failure(), &mut out);
    ledger.handle_delivery(b, written(8), &mut out);
    assert!(out.is_empty(), "the first of the sender is not settled");
    // What is settled and cannot be told yet is under way too.
    assert_eq!(ledger.in_flight(), 4);
    ledger.handle_delivery(other, written(3), &mut out);
    assert_eq!(names(&mut out), ["other"]);
    ledger.handle_delivery(a, written(7), &mut out);
    assert_eq!(names(&mut out), ["a", "b", "refused"]);
    assert!(ledger.queues.is_empty() && ledger.in_flight() == 0);
    assert_eq!((ledger.slots.len(), ledger.free.len()), (4, 4), "all places are free");
    ledger.settle_now("again", 1, failure(), &mut out);
    assert_eq!(names(&mut out), ["again"]);
    assert!(ledger.queues.is_empty());
}

#[test]
fn answers_with_ids_come_as_messages_settle() {
    let mut ledger = Ledger::new(Order::AsSettled, false);
    let mut out = Vec::new();
    let [a, b] = ["a", "b"].map(|name| ledger.enter(name, 1, Some("t".into()), 5, 1));
    ledger.settle_now("refused", 1, failure(), &mut out);
    ledger.handle_delivery(b, written(8), &mut out);
    ledger.handle_delivery(b, written(8), &mut out);
    ledger.handle_delivery(a, written(7), &mut out);
    assert_eq!(names(&mut out), ["refused", "b", "a"], "each is told once");
}

#[test]
fn a_ticket_of_before_says_nothing_of_who_is_there_now() {
    let mut ledger = Ledger::new(Order::AsSettled, false);
    let mut out = Vec::new();
    let before = ledger.enter("before", 1, Some("t".into()), 5, 1);
    ledger.handle_delivery(before, written(1), &mut out);
    let now = ledger.enter("now", 1, Some("t".into()), 5, 1);
    assert_eq!(ledger.slots.len(), 1, "it has the other's place");
    ledger.handle_delivery(before, written(2), &mut out);
    assert_eq!((names(&mut out), ledger.in_flight()), (vec!["before"], 1));
    ledger.handle_delivery(now, written(3), &mut out);
    assert_eq!(names(&mut out), ["now"]);
    // The same of neighbors.
    let before = ledger.enter_next((8, 0), 1, None, 5);
    ledger.handle_delivered(delivered(before, 1, 4), &mut out);
    let now = ledger.enter_next((8, 1), 1, None, 5);
    assert_eq!(runs(&mut out), [(8, 0..1, Some(4))]);
    ledger.handle_delivered(delivered(before, 1, 5), &mut out);
    assert_eq!((out.len(), ledger.in_flight(), ledger.slots.len()), (0, 1, 1));
    ledger.handle_delivered(delivered(now, 1, 6), &mut out);
    assert_eq!((runs(&mut out), ledger.in_flight()), (vec![(8, 1..2, Some(6))], 0));
}

#[test]
fn a_batch_is_told_after_its_last_record() {
    let mut ledger = Ledger::new(Order::OfMessages, true);
    let mut out = Vec::new();
    let first = ledger.enter("batch", 1, Some("t".into()), 5, 3);
    ledger.handle_delivery(first, written(6), &mut out);
    ledger.handle_delivery(first, written(5), &mut out);
    assert!(out.is_empty());
    ledger.handle_delivery(first, written(7), &mut out);
    let place = outcome(&mut out).unwrap();
    let ends = Batch { first: Some(5), last: Some(7), count: 3, partitions: Vec::new() };
    assert_eq!((place.partition, place.offset), (Some(1), Some(7)));
    assert_eq!(place.batch, Some(Box::new(ends)));

    let first = ledger.enter("several", 1, Some("t".into()), 5, 3);
    for (partition, offset) in [(2, Some(9)), (0, Some(4)), (2, None)] {
        let written = Written { partition, offset, log_append_time: None };
        ledger.handle_delivery(first, Ok(written), &mut out);
    }
    let place = outcome(&mut out).unwrap();
    assert_eq!((place.partition, place.offset), (None, None));
    let batch = place.batch.unwrap();
    assert_eq!((batch.first, batch.last, batch.count), (None, None, 3));
    let part =
        |partition, offset, count| BatchPart { partition, first: offset, last: offset, count };
    assert_eq!(batch.partitions, [part(0, Some(4), 1), part(2, None, 2)]);

    let first = ledger.enter("partly", 1, Some("t".into()), 5, 2);
    ledger.handle_delivery(first, written(8), &mut out);
    ledger.handle_delivery(first, Err(WriteError::TooLarge("big".to_owned())), &mut out);
    let code = outcome(&mut out).unwrap_err().code;
    assert_eq!(code, Code::TimeoutUnknown, "a part is there");
    let first = ledger.enter("neither", 1, Some("t".into()), 5, 2);
    for _ in 0..2 {
        ledger.handle_delivery(first, Err(WriteError::TooLarge("big".to_owned())), &mut out);
    }
    assert_eq!(outcome(&mut out).unwrap_err().code, Code::TooLarge);
}

#[test]
fn what_is_abandoned_is_told_in_order() {
    let mut ledger = Ledger::new(Order::OfMessages, false);
    let mut out = Vec::new();
    let tickets: Vec<_> = (0..100).map(|_| ledger.enter("m", 1, Some("t".into()), 5, 1)).collect();
    ledger.handle_delivery(tickets[3], written(3), &mut out);
    let failure = Failure::new(Code::TimeoutUnknown, "the relay ends");
    ledger.abandon(&failure, &mut out);
    assert_eq!(out.len(), 100);
    let outcomes = out.iter().map(|told| match told {
        Told::Message(settled) => settled.outcome.as_ref().map_err(|failure| failure.code),
        Told::Run(run) => panic!("{run:?}"),
    });
    let is_ok: Vec<_> = outcomes.map(|outcome| outcome.is_ok()).collect();
    assert_eq!(is_ok.iter().position(|ok| *ok), Some(3));
    assert_eq!(is_ok.iter().filter(|ok| **ok).count(), 1);
    assert_eq!(ledger.in_flight(), 0);
    ledger.handle_delivery(tickets[0], written(1), &mut out);
    assert_eq!(out.len(), 100, "it was told already");
}

#[test]
fn neighbors_have_tickets_that_follow_one_another() {
    let topic: Arc<str> = Arc::from("t");
    let mut ledger = Ledger::<&str>::new(Order::AsSettled, false);
    let first = ledger.enter_next((3, 0), 1, Some(&topic), 5);
    let mut enter = |message, topic: Option<&Arc<str>>, timestamp| {
        ledger.enter_next(message, 1, topic, timestamp)
    };
    assert_eq!(enter((3, 1), Some(&topic), 5), first + 1);
    assert_eq!(enter((3, 2), Some(&topic), 5), first + 2);
    // One that is not the next, or not like the others, begins anew.
    let others = [
        enter((3, 4), Some(&topic), 5),
        enter((4, 5), Some(&topic), 5),
        enter((4, 6), Some(&topic), 6),
        enter((4, 7), None, 6),
        enter((4, 8), Some(&topic), 6),
    ];
    assert!(others.iter().all(|other| *other > first + Group::MOST), "{others:?}");
    assert_eq!(enter((4, 9), Some(&topic), 6), others[4] + 1);
    // A group is full before its tickets could be those of another place.
    let mut ledger = Ledger::<&str>::new(Order::AsSettled, false);
    let first = ledger.enter_next((3, 0), 1, None, 5);
    let tickets: Vec<_> =
        (1..=Group::MOST).map(|index| ledger.enter_next((3, index), 1, None, 5)).collect();
    assert_eq!(tickets[Group::MOST - 2], first + Group::MOST - 1);
    assert_ne!(tickets[Group::MOST - 1], first + Group::MOST);
    assert_eq!((ledger.slots.len(), ledger.in_flight()), (2, Group::MOST + 1));
}

#[test]
fn neighbors_are_told_as_they_settle_or_in_their_order() {
    for order in [Order::AsSettled, Order::OfMessages] {
        let mut ledger = Ledger::new(order, false);
        let mut out = Vec::new();
        let first = ledger.enter_next((7, 10), 1, None, 5);
        for index in 11..20 {
            ledger.enter_next((7, index), 1, None, 5);
        }
        let alone = ledger.enter("alone", 1, None, 5, 1);
        let next = ledger.enter_next((8, 0), 1, None, 5);
        ledger.handle_delivered(delivered(next, 1, 90), &mut out);
        ledger.handle_delivered(delivered(first + 4, 6, 70), &mut out);
        ledger.handle_delivered(delivered(first + 2, 2, 40), &mut out);
        ledger.handle_delivery(alone, written(80), &mut out);
        let so_far = runs(&mut out);
        ledger.handle_delivered(delivered(first, 2, 20), &mut out);
        ledger.handle_delivered(delivered(first, 2, 21), &mut out);
        let ends = runs(&mut out);
        let all = [
            (7, 10..12, Some(20)),
            (7, 12..14, Some(40)),
            (7, 14..20, Some(70)),
            (usize::MAX, 0..0, Some(-1)),
            (8, 0..1, Some(90)),
        ];
        match order {
            Order::OfMessages => assert_eq!((so_far, ends), (vec![], all.to_vec())),
            Order::AsSettled => {
                let [front, two, six, alone, next] = all;
                assert_eq!((so_far, ends), (vec![next, six, two, alone], vec![front]));
            }
        }
        assert_eq!((ledger.in_flight(), ledger.queues.len()), (0, 0), "{order:?}");
        assert_eq!(ledger.free.len(), ledger.slots.len());
    }
}

#[test]
fn neighbors_that_are_abandoned_are_told_once_each() {
    let failure = Failure::new(Code::TimeoutUnknown, "the relay ends");
    for order in [Order::AsSettled, Order::OfMessages] {
        let mut ledger = Ledger::new(order, false);
        let mut out = Vec::new();
        let first = ledger.enter_next((7, 0), 1, None, 5);
        for index in 1..9 {
            ledger.enter_next((7, index), 1, None, 5);
        }
        ledger.handle_delivered(delivered(first + 2, 3, 70), &mut out);
        ledger.abandon(&failure, &mut out);
        let told = runs(&mut out);
        let expected = match order {
            Order::OfMessages => vec![(7, 0..2, None), (7, 2..5, Some(70)), (7, 5..9, None)],
            Order::AsSettled => vec![(7, 2..5, Some(70)), (7, 0..6, None)],
        };
        assert_eq!(told, expected);
        assert_eq!((ledger.in_flight(), ledger.queues.len()), (0, 0), "{order:?}");
        ledger.handle_delivered(delivered(first, 2, 1), &mut out);
        assert!(out.is_empty(), "it was told already");
    }
}

#[test]
fn the_time_of_the_log_counts_for_all_of_a_run() {
    let mut ledger = Ledger::<&str>::new(Order::AsSettled, false);
    let mut out = Vec::new();
    let first = ledger.enter_next((7, 0), 1, None, 5);
    ledger.enter_next((7, 1), 1, None, 5);
    let written = Written { partition: 1, offset: None, log_append_time: Some(77) };
    ledger.handle_delivered(Delivered { first, count: 2, outcome: Ok(written) }, &mut out);
    assert!(matches!(&out[..], [Told::Run(Run { timestamp: 77, .. })]));
}

#[test]
fn neighbors_that_are_entered_at_once_are_those_of_one_by_one() {
    for order in [Order::AsSettled, Order::OfMessages] {
        let told = [true, false].map(|at_once| {
            let mut ledger: Ledger<&str> = Ledger::new(order, false);
            let mut out = Vec::new();
            assert_eq!(ledger.room_behind(), 0, "there is nothing to be behind of");
            let first = ledger.enter_next((4, 10), 1, None, 5);
            if at_once {
                assert_eq!(ledger.room_behind(), Group::MOST - 1);
                ledger.enter_behind(3);
                ledger.enter_behind(0);
            } else {
                for index in 11..14 {
                    assert_eq!(ledger.enter_next((4, index), 1, None, 5), first + index - 10);
                }
            }
            assert_eq!(ledger.find(first + 3), Some(Found::Neighbor((4, 13))));
            assert_eq!(ledger.enter_next((4, 14), 1, None, 5), first + 4);
            assert_eq!(ledger.in_flight(), 5);
            ledger.handle_delivered(delivered(first + 1, 4, 8), &mut out);
            ledger.handle_delivered(delivered(first, 1, 7), &mut out);
            assert_eq!((ledger.in_flight(), ledger.room_behind()), (0, 0));
            runs(&mut out)
        });
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0].iter().map(|(_, messages, _)| messages.len()).sum::<usize>(), 5);
    }
}

#[test]
fn no_more_neighbors_are_entered_at_once_than_have_a_ticket() {
    let mut ledger: Ledger<&str> = Ledger::new(Order::AsSettled, false);
    let first = ledger.enter_next((4, 0), 1, None, 5);
    ledger.enter_behind(ledger.room_behind());
    assert_eq!((ledger.room_behind(), ledger.in_flight()), (0, Group::MOST));
    let next = ledger.enter_next((4, Group::MOST), 1, None, 5);
    assert_ne!(next, first + Group::MOST, "another place");
    assert_eq!(ledger.find(next), Some(Found::Neighbor((4, Group::MOST))));
}
