//! Feeds arbitrary bytes in two splits, the second byte by byte: no panic, bounded memory, and the
//! same events and error. The first octet chooses the socket type and how far the handshake
//! has come.
//!
//! To run it, in `crates/zmtp`: `cargo +nightly fuzz run connection -s none`. Without a sanitizer,
//! which would find nothing in safe Rust.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zafka_zmtp::{
    Config, Connection, Error, Event, Heartbeat, MAX_MESSAGE_FRAMES, MAX_REPLY_BYTES, Mechanism,
    Role, SocketType,
};

const MAX: usize = 4096;

fn prelude(ours: SocketType, minor: u8) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, minor];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    let theirs =
        SocketType::ALL.into_iter().find(|theirs| ours.accepts(*theirs)).expect("some fit").name();
    bytes.extend_from_slice(&[4, 22 + theirs.len() as u8]);
    bytes.extend_from_slice(b"\x05READY\x0bSocket-Type\0\0\0");
    bytes.push(theirs.len() as u8);
    bytes.extend_from_slice(theirs.as_bytes());
    bytes
}

fn feed(ours: SocketType, input: &[u8], step: usize) -> (Vec<Event>, Vec<u8>, Result<(), Error>) {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let config = Config {
        socket_type: ours,
        role: Role::Server,
        mechanism: Mechanism::Null,
        identity: Bytes::new(),
        max_frame: MAX,
        max_message: MAX,
        heartbeat: Some(Heartbeat { interval: second, timeout: second }),
    };
    let mut connection = Connection::new(config, now);
    if ours == SocketType::Pull {
        connection.discard_up_to(4 * MAX as u64);
    }
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    for piece in input.chunks(step.max(1)) {
        let result = connection.handle_input(piece, now);
        events.extend(std::iter::from_fn(|| connection.poll_event()));
        sent.extend(std::iter::from_fn(|| connection.poll_output()).flatten());
        assert!(connection.buffered() <= 4 * MAX + 16 * 1024 + 64 * MAX_MESSAGE_FRAMES);
        if result.is_err() {
            return (events, sent, result);
        }
    }
    (events, sent, Ok(()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, noise)) = data.split_first() else { return };
    let ours = SocketType::ALL[usize::from(choice >> 3) % SocketType::ALL.len()];
    let mut input = prelude(ours, choice & 1);
    input.truncate(match choice & 6 {
        0 => 0,
        2 => 64,
        _ => input.len(),
    });
    input.extend_from_slice(noise);
    let whole = feed(ours, &input, input.len());
    // A reply is shorter than what it answers. Of a longer input that comes whole some are left
    // out.
    if input.len() <= MAX_REPLY_BYTES {
        assert_eq!(feed(ours, &input, 1), whole);
    }
});
