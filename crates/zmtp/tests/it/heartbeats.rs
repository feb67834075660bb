//! Heartbeats under a virtual clock.

use std::time::{Duration, Instant};

use zafka_zmtp::{Connection, Error, MAX_REPLY_BYTES, Overdue, SocketType};

use crate::pair::{Pair, config, events, heartbeat, written};
use crate::recorded::greeting;

const READY_SUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn with_heartbeat() -> Pair {
    let mut left = config(SocketType::Pub);
    left.heartbeat = heartbeat(1000, 250);
    Pair::ready(left, config(SocketType::Sub))
}

#[test]
fn a_live_peer_answers_every_ping() {
    let mut pair = with_heartbeat();
    for _ in 0..5 {
        let due = pair.left.poll_timeout().unwrap();
        assert_eq!(due, pair.now + ms(1000));
        pair.left.handle_timeout(due - ms(1)).unwrap();
        assert_eq!(pair.left.poll_output(), None);
        pair.now = due;
        pair.left.handle_timeout(due).unwrap();
        let ping = written(&mut pair.left, due);
        assert_eq!(ping, b"\x04\x07\x04PING\x00\x03"); // 250 ms are three tenths, rounded up
        assert_eq!(pair.left.poll_timeout(), Some(due + ms(250)));
        pair.right.handle_input(&ping, pair.now).unwrap();
        assert_eq!(pair.right.poll_timeout(), Some(due + ms(300)));
        pair.exchange().unwrap();
        pair.right.handle_input(b"\x00\x01m", pair.now).unwrap();
    }
    assert_eq!(pair.right.poll_timeout(), None);
    assert!(pair.left.is_ready() && events(&mut pair.left).is_empty());
}

#[test]
fn a_silent_peer_is_given_up_and_any_byte_is_a_sign_of_life() {
    let mut pair = with_heartbeat();
    let ping_at = pair.now + ms(1000);
    pair.left.handle_timeout(ping_at).unwrap();
    written(&mut pair.left, ping_at);
    pair.left.handle_input(b"\x00", ping_at + ms(200)).unwrap(); // half a header
    pair.left.handle_timeout(ping_at + ms(250)).unwrap();
    let ping_at = ping_at + ms(1000);
    assert_eq!(pair.left.poll_timeout(), Some(ping_at));
    pair.left.handle_timeout(ping_at).unwrap();
    written(&mut pair.left, ping_at);
    let error = pair.left.handle_timeout(ping_at + ms(250)).unwrap_err();
    assert_eq!(error, Error::HeartbeatTimeout { within: ms(250), after: "our PING" });
    assert_eq!(pair.left.poll_timeout(), None);
    assert_eq!(pair.left.handle_timeout(ping_at + ms(250)), Err(error));
}

#[test]
fn a_block_within_a_large_frame_is_a_sign_of_life() {
    let mut left = config(SocketType::Pull);
    left.heartbeat = heartbeat(1000, 250);
    let mut pair = Pair::ready(left, config(SocketType::Push));
    pair.left.gather();
    pair.left.handle_block(&mut b"\x02\0\0\0\0\0\0\x03\xe8begun".to_vec(), pair.now).unwrap();
    let ping_at = pair.now + ms(1000);
    pair.left.handle_timeout(ping_at).unwrap();
    written(&mut pair.left, ping_at);
    pair.left.handle_block(&mut vec![0; 500], ping_at + ms(200)).unwrap();
    pair.left.handle_timeout(ping_at + ms(250)).unwrap();
    assert_eq!(pair.left.poll_timeout(), Some(ping_at + ms(1000)));
}

#[test]
fn the_deadline_is_that_of_the_first_unanswered_ping() {
    let mut left = config(SocketType::Pub);
    left.heartbeat = heartbeat(100, 250);
    let mut pair = Pair::ready(left, config(SocketType::Sub));
    let start = pair.now;
    for at in [100, 200, 300] {
        pair.left.handle_timeout(start + ms(at)).unwrap();
        assert_eq!(written(&mut pair.left, start + ms(at)), b"\x04\x07\x04PING\x00\x03");
    }
    assert_eq!(pair.left.handle_timeout(start + ms(350)).unwrap_err().kind(), "heartbeat");
}

#[test]
fn a_peers_time_to_live_is_kept_without_heartbeats_of_our_own() {
    let mut pair = Pair::ready(config(SocketType::Pub), config(SocketType::Sub));
    assert_eq!(pair.left.poll_timeout(), None);
    pair.left.handle_input(b"\x04\x07\x04PING\x00\x00", pair.now).unwrap();
    assert_eq!(pair.left.poll_timeout(), None);
    pair.left.handle_input(b"\x04\x07\x04PING\x00\x0a", pair.now).unwrap();
    let until = pair.now + ms(1000);
    assert_eq!(pair.left.poll_timeout(), Some(until));
    pair.left.handle_input(b"\x04\x07\x04PING\x00\x0a\x00\x01m", pair.now).unwrap();
    assert_eq!(pair.left.poll_timeout(), None, "the message after the PING is traffic");
    pair.left.handle_input(b"\x04\x07\x04PING\x00\x0a", pair.now).unwrap();
    pair.left.handle_timeout(until - ms(1)).unwrap();
    let error = pair.left.handle_timeout(until).unwrap_err();
    assert_eq!(error, Error::HeartbeatTimeout { within: ms(1000), after: "its PING" });
}

#[test]
fn a_3_0_peer_gets_no_ping_but_its_own_are_answered() {
    let now = Instant::now();
    let mut ours = config(SocketType::Pub);
    ours.heartbeat = heartbeat(1000, 1000);
    let mut connection = Connection::new(ours, now);
    connection.handle_input(&[&greeting(1, 0)[..], READY_SUB].concat(), now).unwrap();
    written(&mut connection, now);
    assert_eq!(connection.poll_timeout(), None);
    connection.handle_timeout(now + ms(5000)).unwrap();
    assert_eq!(connection.poll_output(), None);
    connection.handle_input(b"\x04\x08\x04PING\x00\x00c", now).unwrap();
    assert_eq!(written(&mut connection, now), b"\x04\x06\x04PONGc");
}

#[test]
fn no_heartbeats_before_the_handshake_is_done() {
    let mut ours = config(SocketType::Pub);
    ours.heartbeat = heartbeat(1000, 1000);
    let connection = Connection::new(ours, Instant::now());
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn a_zero_interval_is_off_and_a_zero_timeout_expects_nothing() {
    let mut left = config(SocketType::Pub);
    left.heartbeat = heartbeat(0, 1000);
    assert_eq!(Pair::ready(left.clone(), config(SocketType::Sub)).left.poll_timeout(), None);
    left.heartbeat = heartbeat(1000, 0);
    let mut pair = Pair::ready(left, config(SocketType::Sub));
    pair.left.handle_timeout(pair.now + ms(1000)).unwrap();
    assert_eq!(written(&mut pair.left, pair.now), b"\x04\x07\x04PING\x00\x00");
    assert_eq!(pair.left.poll_timeout(), Some(pair.now + ms(2000)));
}

#[test]
fn a_flood_of_pings_is_bounded_by_what_the_peer_reads() {
    let ping = b"\x04\x17\x04PING\x00\x000123456789abcdef";
    let pong = b"\x04\x15\x04PONG0123456789abcdef".len();
    let fits = MAX_REPLY_BYTES / pong;
    let mut pair = Pair::ready(config(SocketType::Pub), config(SocketType::Sub));
    for _ in 0..3 {
        pair.left.handle_input(&ping.repeat(fits), pair.now).unwrap();
        assert_eq!(written(&mut pair.left, pair.now).len(), fits * pong);
    }
    // A peer that has so much to read yet may be full and healthy: what is left out tells it
    // nothing new.
    pair.left.handle_input(&ping.repeat(fits + 1), pair.now).unwrap();
    assert_eq!(written(&mut pair.left, pair.now).len(), fits * pong);
    pair.left.handle_input(ping, pair.now).unwrap();
    assert_eq!(written(&mut pair.left, pair.now).len(), pong);
}

#[test]
fn a_ping_is_to_be_answered_once_it_is_written_and_one_at_a_time_waits() {
    let mut left = config(SocketType::Pub);
    left.heartbeat = heartbeat(100, 250);
    let mut pair = Pair::ready(left, config(SocketType::Sub));
    let start = pair.now;
    pair.left.handle_timeout(start + ms(100)).unwrap();
    let ping = pair.left.poll_output().unwrap();
    // It stands behind what its transport does not take.
    for at in (200..10_000).step_by(100) {
        pair.left.handle_timeout(start + ms(at)).unwrap();
        assert_eq!(pair.left.poll_output(), None, "one waits already");
    }
    assert_eq!(pair.left.pings_unanswered(), 0);
    let written = start + ms(10_000);
    assert!(pair.left.output_written(written) && !pair.left.output_written(written));
    assert_eq!(pair.left.pings_unanswered(), 1);
    assert!(pair.left.overdue(written + ms(249)).is_none());
    assert!(pair.left.overdue(written + ms(250)) == Some(Overdue::Reply));
    pair.left.excuse_silence(written + ms(1000));
    pair.left.handle_timeout(written + ms(999)).unwrap();
    assert_eq!(pair.left.handle_timeout(written + ms(1000)).unwrap_err().kind(), "heartbeat");
    assert_eq!(ping, b"\x04\x07\x04PING\x00\x03");
}

#[test]
fn pongs_are_counted_against_pings() {
    let mut pair = with_heartbeat();
    for _ in 0..3 {
        let now = pair.left.poll_timeout().unwrap();
        pair.left.handle_timeout(now).unwrap();
        written(&mut pair.left, now);
        pair.left.handle_input(b"\x00\x01\x01", now).unwrap();
    }
    assert_eq!(pair.left.pings_unanswered(), 3, "a subscription is a sign of life and no answer");
    for left in [2, 1, 0, 0] {
        pair.left.handle_input(b"\x04\x05\x04PONG", pair.now).unwrap();
        assert_eq!(pair.left.pings_unanswered(), left);
    }
}

#[test]
fn a_peer_that_is_not_read_is_shown_life_as_often_as_it_asks() {
    let mut right = config(SocketType::Push);
    right.heartbeat = heartbeat(200, 200);
    let mut pair = Pair::ready(config(SocketType::Pull), right);
    assert_eq!(pair.left.life_interval(), None, "it never sent a PING, and expects nothing");
    let mut pings = Vec::new();
    for (sent, interval) in [(1, 100), (2, 100)] {
        let due = pair.right.poll_timeout().unwrap();
        pair.now = due;
        pair.right.handle_timeout(due).unwrap();
        pings = written(&mut pair.right, due);
        pair.left.handle_input(&pings, due).unwrap();
        assert_eq!(pair.left.life_interval(), Some(ms(interval)), "after {sent} PINGs");
        let pong = written(&mut pair.left, due);
        pair.right.handle_input(&pong, due).unwrap();
    }
    // From now on nothing of it is read. Each of its PINGs is satisfied by a PONG that it did not
    // ask for.
    for _ in 0..20 {
        pair.now += ms(100);
        pair.left.show_life();
        let pong = written(&mut pair.left, pair.now);
        assert_eq!(pong, b"\x04\x05\x04PONG");
        pair.right.handle_input(&pong, pair.now).unwrap();
        pair.right.handle_timeout(pair.now).unwrap();
        while pair.right.poll_output().is_some() {
            pair.right.output_written(pair.now);
        }
    }
    assert!(pair.right.is_ready() && !pings.is_empty());
    // The time to live of its last PING does not count against it.
    pair.left.resume(pair.now);
    assert_eq!(pair.left.poll_timeout(), None);
    pair.left.handle_timeout(pair.now + ms(10_000)).unwrap();
}
