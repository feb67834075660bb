//! A relay that ends: killed, and asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use zafka_testkit::wait_until;

use super::{Ingest, WINDOW, numbers, topic, value};
use crate::DEADLINE;

#[test]
#[ignore = "needs Java and Maven"]
fn a_relay_that_is_killed_told_nothing_that_is_not_so() {
    let (node, topic) = topic("edge", 2, &[]);
    let mut ingest = Ingest::router(node.bootstrap(), &topic);
    let mut sender = ingest.dealer();
    for kill in 1..=3 {
        sender.run_to(kill * 1_000);
        // More is under way.
        (0..WINDOW).for_each(|_| sender.post());
        ingest.start_again();
        sender.go_on(ingest.connect(zmq::DEALER));
    }
    sender.settle();
    sender.assert_true(node.admin(), &topic);
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_router_that_is_asked_to_end_answers_what_it_took() {
    let (node, topic) = topic("edge", 2, &[]);
    let mut ingest = Ingest::router(node.bootstrap(), &topic);
    let mut sender = ingest.dealer();
    for stop in 1..=5 {
        sender.run_to(stop * 1_000);
        (0..WINDOW).for_each(|_| sender.post());
        ingest.stop();
        // What it had taken it has answered, and the answers are there.
        while sender.socket.poll(zmq::POLLIN, 0).unwrap() > 0 {
            sender.receive();
        }
        ingest.start_again();
        sender.go_on(ingest.connect(zmq::DEALER));
    }
    sender.settle();
    sender.assert_true(node.admin(), &topic);
}

/// Bytes that libzmq encodes at a time (`out_batch_size`).
const ENCODED: usize = 8_192;

#[test]
#[ignore = "needs Java and Maven"]
fn ten_ends_lose_no_more_than_a_sender_had_encoded() {
    const ENDS: usize = 10;
    const BURST: usize = 5_000;
    let (node, topic) = topic("edge", 2, &[]);
    let from = r#"socket = "pull", frames = ["{key}", "{value}"]"#;
    let mut ingest = Ingest::start(node.bootstrap(), from, &format!("topic = \"{topic}\""));
    let push = ingest.connect(zmq::PUSH);
    push.set_linger(-1).unwrap();
    push.set_reconnect_ivl(10).unwrap();
    // A burst for each end, which comes in the middle of it.
    let allowed = Arc::new(AtomicUsize::new(0));
    let limit = Arc::clone(&allowed);
    let sending = std::thread::spawn(move || {
        for number in 0..ENDS * BURST {
            while number >= limit.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(1));
            }
            push.send_multipart([&b"k"[..], &value(number)], 0).unwrap();
        }
        push
    });
    for _ in 0..ENDS {
        allowed.fetch_add(BURST, Ordering::Relaxed);
        wait_until("some to be received", DEADLINE, || {
            ingest.counters().is_some_and(|counters| counters["received"].as_u64() > Some(500))
        });
        ingest.stop();
        ingest.start_again();
    }
    let push = sending.join().unwrap();
    // The last one, which ends what the sender had.
    let last = ENDS * BURST;
    push.send_multipart([&b"k"[..], &value(last)], 0).unwrap();
    let mut found = Vec::new();
    wait_until("the last message to be in the log", 2 * DEADLINE, || {
        let settled = ingest.route().is_some_and(|route| route["in_flight"] == 0);
        settled && {
            found = numbers(node, &topic);
            found.last() == Some(&last)
        }
    });
    let mut once = found.clone();
    once.dedup();
    assert_eq!(once.len(), found.len(), "none is there twice");
    let lost = last + 1 - found.len();
    // Frames of a message, with their headers; the one that was half written is lost too.
    let message = 2 + 1 + 2 + value(0).len();
    let most = ENDS * (ENCODED / message + 2);
    assert!(lost <= most, "{lost} of {last} are lost, and at most {most} may be");
    eprintln!("{lost} of {last} messages were lost at {ENDS} ends; at most {most} may be");
}
