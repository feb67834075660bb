//! Writes arbitrary plaintext inside valid boxes, the keys being known: properties in INITIATE,
//! flags and bodies in MESSAGE. No panic, bounded memory, and the same events, output and error
//! whether the input comes whole or byte by byte.
//!
//! Input: one octet that chooses our socket type, then parts, each an octet with its length and an
//! octet that becomes the flags within a MESSAGE. The first part is the metadata.
//!
//! To run it, in `crates/zmtp`: `cargo +nightly fuzz run curve -s none`. Without a sanitizer, as
//! nothing here is unsafe.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crypto_box::SalsaBox;
use crypto_box::aead::AeadInPlace;
use libfuzzer_sys::fuzz_target;
use zafka_zmtp::curve::{KeyPair, SecretKey, ServerSide};
use zafka_zmtp::{
    Config, Connection, Error, Event, MAX_MESSAGE_FRAMES, Mechanism, Role, SocketType,
};

const MAX: usize = 4096;
/// Every random byte of the server.
const RANDOM: u8 = 1;
const SERVER: [u8; 32] = [9; 32];
const CLIENT: [u8; 32] = [50; 32];
const SHORT: [u8; 32] = [2; 32];

fn public(secret: [u8; 32]) -> [u8; 32] {
    *crypto_box::SecretKey::from(secret).public_key().as_bytes()
}

fn boxed(theirs: [u8; 32], ours: [u8; 32], nonce: &[&[u8]], text: &[u8]) -> Vec<u8> {
    let shared = SalsaBox::new(&theirs.into(), &ours.into());
    let nonce: [u8; 24] = nonce.concat().try_into().expect("24 bytes");
    let mut text = text.to_vec();
    let tag = shared.encrypt_in_place_detached(&nonce.into(), b"", &mut text).expect("short");
    [&tag[..], &text].concat()
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(size) => [&[flags, size], body].concat(),
        Err(_) => [&[flags | 2], &(body.len() as u64).to_be_bytes()[..], body].concat(),
    }
}

/// Greeting, HELLO and INITIATE with these properties.
fn opening(metadata: &[u8]) -> Vec<u8> {
    let mut greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE".to_vec();
    greeting.resize(64, 0);
    let signature =
        boxed(public(SERVER), SHORT, &[b"CurveZMQHELLO---", &1u64.to_be_bytes()], &[0; 64]);
    let hello =
        [&b"\x05HELLO\x01\0"[..], &[0; 72], &public(SHORT), &1u64.to_be_bytes(), &signature];
    let server = public([RANDOM; 32]);
    let vouched = [public(SHORT), public(SERVER)].concat();
    let vouch = boxed(server, CLIENT, &[b"VOUCH---", &[5; 16]], &vouched);
    let text = [&public(CLIENT)[..], &[5; 16], &vouch, metadata].concat();
    let sealed = boxed(server, SHORT, &[b"CurveZMQINITIATE", &2u64.to_be_bytes()], &text);
    let initiate = [&b"\x08INITIATE"[..], &[RANDOM; 96], &2u64.to_be_bytes(), &sealed];
    [greeting, frame(4, &hello.concat()), frame(4, &initiate.concat())].concat()
}

fn message(number: u64, flags: u8, body: &[u8]) -> Vec<u8> {
    let nonce = number.to_be_bytes();
    let text = [&[flags], body].concat();
    let sealed = boxed(public([RANDOM; 32]), SHORT, &[b"CurveZMQMESSAGEC", &nonce], &text);
    frame(0, &[&b"\x07MESSAGE"[..], &nonce, &sealed].concat())
}

type Outcome = (Vec<Event>, Vec<u8>, Result<(), Error>);

fn feed(ours: SocketType, opening: &[u8], traffic: &[u8], step: usize) -> Outcome {
    let now = Instant::now();
    let keys = vec![KeyPair::new(SecretKey::from_bytes(SERVER))];
    let side = ServerSide { keys, random: |bytes| bytes.fill(RANDOM) };
    let config = Config {
        socket_type: ours,
        role: Role::Server,
        mechanism: Mechanism::CurveServer(Arc::new(side)),
        identity: Bytes::new(),
        max_frame: MAX,
        max_message: MAX,
        heartbeat: None,
    };
    let mut connection = Connection::new(config, now);
    let (mut all, mut sent) = (Vec::new(), Vec::new());
    for input in [opening, traffic] {
        for piece in input.chunks(step.max(1)) {
            let result = connection.handle_input(piece, now);
            while let Some(event) = connection.poll_event() {
                if matches!(event, Event::Authenticate(_)) {
                    connection.admit(&[], now);
                    connection.take_sealer().expect("it is ready");
                }
                all.push(event);
            }
            sent.extend(std::iter::from_fn(|| connection.poll_output()).flatten());
            assert!(connection.buffered() <= 4 * MAX + 32 * 1024 + 64 * MAX_MESSAGE_FRAMES);
            if result.is_err() {
                return (all, sent, result);
            }
        }
    }
    (all, sent, Ok(()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, mut rest)) = data.split_first() else { return };
    let ours = SocketType::ALL[usize::from(choice) % SocketType::ALL.len()];
    let theirs = SocketType::ALL.into_iter().find(|theirs| ours.accepts(*theirs));
    let name = theirs.expect("some fit").name();
    let size = (name.len() as u32).to_be_bytes();
    let mut metadata = [b"\x0bSocket-Type", &size[..], name.as_bytes()].concat();
    let mut traffic = Vec::new();
    let mut number = 2;
    while let Some((&[size, flags], after)) = rest.split_first_chunk::<2>() {
        let (body, after) = after.split_at(usize::from(size).min(after.len()));
        rest = after;
        if number == 2 {
            metadata.extend_from_slice(body);
        } else {
            traffic.extend(message(number, flags, body));
        }
        number += 1;
    }
    let opening = opening(&metadata);
    let whole = feed(ours, &opening, &traffic, opening.len().max(traffic.len()));
    assert_eq!(feed(ours, &opening, &traffic, 1), whole);
});
