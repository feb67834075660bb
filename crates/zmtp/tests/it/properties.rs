//! Properties of all bytes and all splits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use zafka_zmtp::frame::{Position, put_header};
use zafka_zmtp::{Connection, Error, Event, MAX_MESSAGE_FRAMES, SocketType};

use crate::pair::{config, events, heartbeat, output};
use crate::recorded::greeting;

const MAX_FRAME: usize = 4096;
const MAX_MESSAGE: usize = 8192;

/// A side's reactions to one stream of bytes.
type Outcome = (Vec<Event>, Vec<u8>, Result<(), Error>);

/// Feeds `input` in pieces of these sizes, over and over.
fn feed(socket_type: SocketType, input: &[u8], sizes: &[usize]) -> Outcome {
    let mut ours = config(socket_type);
    (ours.max_frame, ours.max_message) = (MAX_FRAME, MAX_MESSAGE);
    ours.heartbeat = heartbeat(1000, 1000);
    let mut now = Instant::now();
    let mut connection = Connection::new(ours, now);
    let (mut got, mut sent) = (Vec::new(), Vec::new());
    let mut rest = input;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        let result = connection.handle_input(piece, now);
        got.extend(events(&mut connection));
        sent.extend(output(&mut connection));
        let come = input.len() - rest.len();
        // A frame takes two bytes at least, and costs up to 64 besides what is in it.
        let frames = (come / 2).min(MAX_MESSAGE_FRAMES);
        let most = (2 * come).min(2 * MAX_MESSAGE) + 64 * frames;
        assert!(connection.buffered() <= most, "{} > {most}", connection.buffered());
        if let Err(error) = result {
            assert_eq!(connection.handle_input(b"more", now), Err(error.clone()));
            assert_eq!((connection.buffered(), connection.poll_event()), (0, None));
            return (got, sent, Err(error));
        }
        now += Duration::from_millis(1);
    }
    (got, sent, Ok(()))
}

/// A READY that fits the socket type.
fn ready(ours: SocketType) -> Vec<u8> {
    let theirs = SocketType::ALL.into_iter().find(|theirs| ours.accepts(*theirs)).unwrap().name();
    let mut bytes = vec![4, 22 + theirs.len() as u8];
    bytes.extend_from_slice(b"\x05READY\x0bSocket-Type\0\0\0");
    bytes.push(theirs.len() as u8);
    bytes.extend_from_slice(theirs.as_bytes());
    bytes
}

fn socket_type() -> impl Strategy<Value = SocketType> {
    prop::sample::select(&SocketType::ALL[..])
}

fn frames() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let frame = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 250..600),
    ];
    prop::collection::vec(prop::collection::vec(frame, 1..5), 0..8)
}

/// Bytes that look like traffic more often than noise does.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (0_u8..8, prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(flags, body)| {
            let mut bytes = vec![flags & !2, body.len() as u8];
            bytes.extend_from_slice(&body);
            bytes
        }),
        Just(b"\x04\x08\x04PING\0\x05x".to_vec()),
        Just(b"\x04\x0b\x09SUBSCRIBEa".to_vec()),
        Just(b"\x01\x02\x01a".to_vec()),
        Just(b"\x02\0\0\0\0\0\0\x0f\xff".to_vec()),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_give_the_same_for_every_split(
        ours in socket_type(),
        minor in 0_u8..3,
        shaken in 0_usize..3,
        noise in traffic(),
        sizes in prop::collection::vec(1_usize..300, 1..8),
    ) {
        let mut input = Vec::new();
        if shaken > 0 {
            input.extend(greeting(1, minor));
        }
        if shaken > 1 {
            input.extend(ready(ours));
        }
        input.extend(noise);
        let whole = feed(ours, &input, &[input.len().max(1)]);
        prop_assert_eq!(&feed(ours, &input, &sizes), &whole);
        prop_assert_eq!(&feed(ours, &input, &[1]), &whole);
    }

    #[test]
    fn messages_come_as_they_were_sent(
        messages in frames(),
        sizes in prop::collection::vec(1_usize..700, 1..8),
    ) {
        let mut input = greeting(1, 1);
        input.extend(ready(SocketType::Pull));
        for message in &messages {
            for (index, frame) in message.iter().enumerate() {
                let is_last = index + 1 == message.len();
                let position = if is_last { Position::Last } else { Position::More };
                put_header(&mut input, position, frame.len());
                input.extend_from_slice(frame);
            }
        }
        let (got, _, result) = feed(SocketType::Pull, &input, &sizes);
        prop_assert_eq!(result, Ok(()));
        let sent: Vec<Event> = messages
            .into_iter()
            .map(|message| Event::Message(message.into_iter().map(Bytes::from).collect()))
            .collect();
        prop_assert_eq!(&got[1..], &sent[..]);
    }
}

#[test]
fn an_announced_size_costs_no_memory() {
    let now = Instant::now();
    let mut ours = config(SocketType::Pull);
    (ours.max_frame, ours.max_message) = (1 << 30, 1 << 30);
    let mut connection = Connection::new(ours, now);
    let start =
        [greeting(1, 1), ready(SocketType::Pull), b"\x02\0\0\0\0\x40\0\0\0".to_vec()].concat();
    connection.handle_input(&start, now).unwrap();
    assert_eq!(connection.buffered(), 0);
    connection.handle_input(&[7; 1000], now).unwrap();
    assert!((1000..=2000).contains(&connection.buffered()));
}

#[test]
fn ten_thousand_idle_peers_are_cheap() {
    assert!(size_of::<Connection>() <= 512, "{}", size_of::<Connection>());
}
