//! Bytes that libzmq 4.3.5 sent to a plain TCP socket which played the other side.

mod curve;

use std::time::Instant;

use bytes::Bytes;
use zafka_zmtp::{Connection, Error, Event, Minor, SocketType};

use crate::pair::{config, events, output};

/// The greeting that libzmq sends, with the lowest octet of the signature's padding (identity size
/// plus one) and the minor version.
pub fn greeting(padding: u8, minor: u8) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, padding, 0x7f, 3, minor];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes
}

const READY_SUB: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB";
const READY_XSUB: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04XSUB";
const READY_DEALER: &[u8] =
    b"\x04\x2b\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me";
const READY_PUSH: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH";

fn subscribe(prefix: &'static [u8]) -> Event {
    Event::Subscribe(Bytes::from_static(prefix))
}

fn cancel(prefix: &'static [u8]) -> Event {
    Event::Cancel(Bytes::from_static(prefix))
}

fn message(frames: &[&'static [u8]]) -> Event {
    Event::Message(frames.iter().copied().map(Bytes::from_static).collect())
}

/// Replays a recording to one of our sockets, whole and byte by byte; returns the peer's socket
/// type, version and identity, the events after that, and what we send after our greeting.
fn replay(ours: SocketType, recording: &[u8]) -> (SocketType, Minor, Bytes, Vec<Event>, Vec<u8>) {
    let now = Instant::now();
    let mut results = [recording.len(), 1].into_iter().map(|step| {
        let mut connection = Connection::new(config(ours), now);
        assert_eq!(output(&mut connection), greeting(1, 1));
        for piece in recording.chunks(step) {
            connection.handle_input(piece, now).unwrap();
        }
        let mut all = events(&mut connection).into_iter();
        let Some(Event::Ready(peer)) = all.next() else { panic!("no Ready") };
        let answer = output(&mut connection);
        (peer.socket_type, peer.minor, peer.identity, all.collect(), answer)
    });
    let whole = results.next().unwrap();
    assert_eq!(results.next().unwrap(), whole);
    whole
}

#[test]
fn sub_to_a_3_1_publisher() {
    let long = [0x78; 250];
    let recording = [
        &greeting(1, 1)[..],
        READY_SUB,
        b"\x04\x10\x09SUBSCRIBEorders",
        b"\x04\x0a\x09SUBSCRIBE",
        b"\x06\0\0\0\0\0\0\x01\x04\x09SUBSCRIBE",
        &long,
        b"\x04\x0d\x06CANCELorders",
    ]
    .concat();
    let (socket_type, minor, identity, events, answer) = replay(SocketType::Pub, &recording);
    assert_eq!((socket_type, minor, &identity[..]), (SocketType::Sub, Minor::One, &b""[..]));
    let long = Event::Subscribe(Bytes::copy_from_slice(&long));
    assert_eq!(events, [subscribe(b"orders"), subscribe(b""), long, cancel(b"orders")]);
    assert_eq!(answer, b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB");
}

#[test]
fn sub_to_a_3_0_publisher_as_a_3_0_peer_says_it() {
    let recording =
        [&greeting(1, 0)[..], READY_SUB, b"\x00\x07\x01orders\x00\x07\x00orders"].concat();
    let (_, minor, _, events, _) = replay(SocketType::Pub, &recording);
    assert_eq!(minor, Minor::Zero);
    assert_eq!(events, [subscribe(b"orders"), cancel(b"orders")]);
}

#[test]
fn xsub_sends_messages_whatever_the_version() {
    let recording = [
        &greeting(1, 1)[..],
        READY_XSUB,
        b"\x00\x07\x01orders\x00\x05hello\x01\x02\x01a\x00\x02\x01b\x00\x07\x00orders",
    ]
    .concat();
    let subscriptions = [subscribe(b"orders"), subscribe(b"a"), subscribe(b"b"), cancel(b"orders")];
    assert_eq!(replay(SocketType::Pub, &recording).3, subscriptions);
    let mut with_message = subscriptions.to_vec();
    with_message.insert(1, message(&[b"hello"]));
    assert_eq!(replay(SocketType::XPub, &recording).3, with_message);
}

#[test]
fn dealer_with_an_identity() {
    let recording = [&greeting(3, 1)[..], READY_DEALER, b"\x01\x00\x00\x03yyy"].concat();
    let (socket_type, _, identity, events, answer) = replay(SocketType::Router, &recording);
    assert_eq!((socket_type, &identity[..]), (SocketType::Dealer, &b"me"[..]));
    assert_eq!(events, [message(&[b"", b"yyy"])]);
    assert_eq!(answer, b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0");
}

#[test]
fn push_with_a_long_frame() {
    let recording =
        [&greeting(1, 1)[..], READY_PUSH, b"\x01\x01a\x02\0\0\0\0\0\0\x01\0", &[b'z'; 256]]
            .concat();
    let events = replay(SocketType::Pull, &recording).3;
    assert_eq!(events, [message(&[b"a", &[b'z'; 256]])]);
}

#[test]
fn sub_with_heartbeats() {
    let recording =
        [&greeting(1, 1)[..], READY_SUB, b"\x04\x07\x04PING\0\x0a\x04\x07\x04PING\0\x0a"].concat();
    let answer = replay(SocketType::Pub, &recording).4;
    assert!(answer.ends_with(b"PUB\x04\x05\x04PONG\x04\x05\x04PONG"), "{}", answer.escape_ascii());
}

#[test]
fn our_subscriptions_take_the_form_of_the_peers_version() {
    let forms: [(u8, &[u8]); 2] =
        [(0, b"\x00\x02\x01a\x00\x02\x00a"), (1, b"\x04\x0b\x09SUBSCRIBEa\x04\x08\x06CANCELa")];
    for (minor, form) in forms {
        let now = Instant::now();
        let mut connection = Connection::new(config(SocketType::Sub), now);
        connection.subscribe(b"a");
        let peer =
            [&greeting(1, minor)[..], b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB"].concat();
        connection.handle_input(&peer, now).unwrap();
        connection.cancel(b"a");
        let sent = output(&mut connection);
        assert_eq!(sent[64 + READY_SUB.len()..], *form, "to a 3.{minor} peer");
    }
}

#[test]
fn nothing_but_the_greeting_is_sent_before_the_peers() {
    let now = Instant::now();
    let mut connection = Connection::new(config(SocketType::Sub), now);
    connection.subscribe(b"a");
    connection.handle_input(&greeting(1, 1)[..63], now).unwrap();
    assert_eq!(output(&mut connection), greeting(1, 1));
    connection.handle_input(&[0], now).unwrap();
    assert_eq!(output(&mut connection), READY_SUB);
    let error = connection.handle_input(b"\x04\x09\x05ERROR\x02no", now).unwrap_err();
    assert_eq!(error, Error::PeerError { reason: "no".into() });
}

#[test]
fn a_later_version_is_taken_for_ours() {
    for (major, minor) in [(3, 2), (3, 255), (4, 0), (255, 9)] {
        let mut recording = greeting(1, minor);
        recording[10] = major;
        recording.extend_from_slice(READY_SUB);
        assert_eq!(replay(SocketType::Pub, &recording).1, Minor::One);
    }
}
