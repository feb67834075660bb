//! CURVE: two of our sides with each other, and their traffic.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use zafka_zmtp::curve::{ClientSide, KeyPair, OVERHEAD, Sealer, SecretKey, ServerSide};
use zafka_zmtp::{Config, Connection, Error, Event, Mechanism, PeerInfo, SocketType, Token};

use crate::pair::{Pair, config, events, heartbeat, output};

/// The server's secret short-term key, its cookie and its nonces, as `ones` makes them.
pub const ONES: u8 = 1;

/// No random bytes at all: handshakes of a test are alike.
fn ones(bytes: &mut [u8]) {
    bytes.fill(ONES);
}

fn twos(bytes: &mut [u8]) {
    bytes.fill(2);
}

pub fn keys(number: u8) -> KeyPair {
    KeyPair::new(SecretKey::from_bytes([number; 32]))
}

/// A server with these keys, of which the first is the current one.
pub fn server(socket_type: SocketType, numbers: &[u8]) -> Config {
    let keys = numbers.iter().map(|number| keys(*number)).collect();
    let side = ServerSide { keys, random: ones };
    Config { mechanism: Mechanism::CurveServer(Arc::new(side)), ..config(socket_type) }
}

/// A client that knows a server's key, and may show a token.
pub fn client(socket_type: SocketType, server: u8, token: Option<&'static str>) -> Config {
    let side = ClientSide {
        keys: keys(50),
        server: keys(server).public(),
        token: token.map(|token| Token::new(token.as_bytes())),
        random: twos,
    };
    Config { mechanism: Mechanism::CurveClient(Arc::new(side)), ..config(socket_type) }
}

/// Carries output back and forth until the server, on the left, asks about the client.
fn presented(pair: &mut Pair) -> PeerInfo {
    pair.exchange().unwrap();
    let mut events = events(&mut pair.left).into_iter();
    let (Some(Event::Authenticate(peer)), None) = (events.next(), events.next()) else {
        panic!("no client was presented");
    };
    peer
}

fn ready(connection: &mut Connection) -> PeerInfo {
    let mut events = events(connection).into_iter();
    let (Some(Event::Ready(peer)), None) = (events.next(), events.next()) else {
        panic!("not ready");
    };
    peer
}

/// A pair whose handshake is done, with both sealers. The server is on the left.
struct Wire {
    pair: Pair,
    sealers: [Sealer; 2],
}

impl Wire {
    fn new(left: Config, right: Config) -> Self {
        let mut pair = Pair::new(left, right);
        presented(&mut pair);
        pair.left.admit(&[], pair.now);
        pair.exchange().unwrap();
        ready(&mut pair.left);
        ready(&mut pair.right);
        let sealers = [&mut pair.left, &mut pair.right].map(|side| side.take_sealer().unwrap());
        Self { pair, sealers }
    }

    fn left_seals(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        self.sealers[0].seal(frames, &mut wire).unwrap();
        wire
    }

    fn right_seals(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        self.sealers[1].seal(frames, &mut wire).unwrap();
        wire
    }

    fn left_gets(&mut self, wire: &[u8]) -> Result<Vec<Event>, Error> {
        let outcome = self.pair.left.handle_input(wire, self.pair.now);
        outcome.map(|()| events(&mut self.pair.left))
    }

    fn right_gets(&mut self, wire: &[u8]) -> Result<Vec<Event>, Error> {
        let outcome = self.pair.right.handle_input(wire, self.pair.now);
        outcome.map(|()| events(&mut self.pair.right))
    }
}

fn pub_and_sub() -> Wire {
    Wire::new(server(SocketType::Pub, &[9]), client(SocketType::Sub, 9, None))
}

#[test]
fn a_handshake_shows_the_key_and_the_token_and_answers_with_properties() {
    let mut pair = Pair::new(
        server(SocketType::Router, &[9]),
        Config {
            identity: Bytes::from_static(b"me"),
            ..client(SocketType::Dealer, 9, Some("ey.secret"))
        },
    );
    let peer = presented(&mut pair);
    assert_eq!(peer.key, Some(keys(50).public()));
    assert_eq!(peer.socket_type, SocketType::Dealer);
    assert_eq!(&peer.identity[..], b"me");
    assert_eq!(peer.token.as_ref().map(Token::expose), Some(&b"ey.secret"[..]));
    assert!(!format!("{peer:?}").contains("secret"), "{peer:?}");
    assert!(pair.left.take_sealer().is_none() && !pair.left.is_ready());

    pair.left.admit(&[("X-Zafka-Subject", "alice")], pair.now);
    pair.exchange().unwrap();
    assert_eq!(ready(&mut pair.left), PeerInfo { token: None, ..peer });
    let server = ready(&mut pair.right);
    assert_eq!(server.key, Some(keys(9).public()));
    let subject = ("X-Zafka-Subject".to_owned(), Bytes::from_static(b"alice"));
    assert!(server.metadata.contains(&subject), "{server:?}");
}

#[test]
fn a_client_may_know_any_key_of_the_server() {
    for known in [9, 8] {
        let mut pair =
            Pair::new(server(SocketType::Pub, &[9, 8]), client(SocketType::Sub, known, None));
        assert_eq!(presented(&mut pair).key, Some(keys(50).public()), "key {known}");
    }
    let mut pair = Pair::new(server(SocketType::Pub, &[9, 8]), client(SocketType::Sub, 7, None));
    assert_eq!(pair.exchange(), Err(Error::Unopened { command: "HELLO" }));
    assert_eq!(output(&mut pair.left), b"", "a client with another key is not told why");
}

#[test]
fn messages_and_commands_go_through_boxes() {
    let mut wire = pub_and_sub();
    // A frame of two bytes, one of 300, and a command between two messages.
    let long = [&[2][..], &300u64.to_be_bytes(), &[b'z'; 300]].concat();
    let frames = [&b"\x01\x06orders"[..], &long, b"\x04\x07\x04PING\0\x0a", b"\0\x01v"].concat();
    let sealed = wire.left_seals(&frames);
    assert!(!sealed.windows(6).any(|part| part == b"orders"));
    // Six bytes and a header of two make a short frame, which libzmq marks as no command.
    assert_eq!(sealed[..10], [&[0, 6 + OVERHEAD as u8], &b"\x07MESSAGE"[..]].concat());
    let message = |frames: &[&[u8]]| {
        Event::Message(frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect())
    };
    let expected = vec![message(&[b"orders", &[b'z'; 300]]), message(&[b"v"])];
    assert_eq!(wire.right_gets(&sealed), Ok(expected));
    let pong = output(&mut wire.pair.right);
    assert_eq!(pong, b"\x04\x05\x04PONG", "the answer is to be sealed by the writer");
    let sealed = wire.right_seals(&pong);
    assert_eq!(wire.left_gets(&sealed), Ok(vec![]));
}

#[test]
fn a_box_comes_in_any_pieces() {
    let mut wire = pub_and_sub();
    let sealed = wire.left_seals(b"\x01\x01a\0\x01b\0\x02cd");
    let mut all = Vec::new();
    for octet in sealed {
        all.extend(wire.right_gets(&[octet]).unwrap());
    }
    let frames = |frames: &[&'static str]| {
        Event::Message(frames.iter().map(|text| Bytes::from_static(text.as_bytes())).collect())
    };
    assert_eq!(all, [frames(&["a", "b"]), frames(&["cd"])]);
}

#[test]
fn subscriptions_are_taken_in_both_forms() {
    let mut wire = pub_and_sub();
    // A message's frame, as libzmq before 4.3 and XSUB say it, and a command with libzmq's flag.
    let sealed = wire.right_seals(b"\0\x02\x01a\x04\x0b\x09SUBSCRIBEb\x04\x08\x06CANCELb");
    let prefix = |text: &'static str| Bytes::from_static(text.as_bytes());
    let expected = vec![
        Event::Subscribe(prefix("a")),
        Event::Subscribe(prefix("b")),
        Event::Cancel(prefix("b")),
    ];
    assert_eq!(wire.left_gets(&sealed), Ok(expected));
}

#[test]
fn nothing_in_the_clear_follows_the_handshake() {
    let mut pair = Pair::new(server(SocketType::Pub, &[9]), client(SocketType::Sub, 9, None));
    pair.right.subscribe(b"secret-topic");
    presented(&mut pair);
    pair.left.admit(&[], pair.now);
    pair.exchange().unwrap();
    // Its subscription waits for the sealer.
    assert_eq!(pair.right.output_bytes(), 2 + 10 + 12);
    assert_eq!(output(&mut pair.right), b"");
    let mut sealer = pair.right.take_sealer().unwrap();
    assert!(pair.right.take_sealer().is_none());
    let plain = output(&mut pair.right);
    assert_eq!(plain, b"\x04\x16\x09SUBSCRIBEsecret-topic");
    let mut wire = Vec::new();
    sealer.seal(&plain, &mut wire).unwrap();
    pair.left.handle_input(&wire, pair.now).unwrap();
    let events = events(&mut pair.left);
    assert_eq!(events[1..], [Event::Subscribe(Bytes::from_static(b"secret-topic"))]);
}

#[test]
fn heartbeats_begin_with_the_handshakes_end() {
    let left = Config { heartbeat: heartbeat(1000, 1000), ..server(SocketType::Pub, &[9]) };
    let wire = Wire::new(left, client(SocketType::Sub, 9, None));
    assert_eq!(
        wire.pair.left.poll_timeout(),
        Some(wire.pair.now + std::time::Duration::from_secs(1))
    );
}

#[test]
fn a_client_that_is_refused_is_told_so_and_nothing_else() {
    let mut pair = Pair::new(server(SocketType::Pub, &[9]), client(SocketType::Sub, 9, None));
    presented(&mut pair);
    let error = pair.left.refuse("400");
    assert_eq!(error, Error::Refused { reason: "400".into() });
    let told = output(&mut pair.left);
    assert_eq!(told, b"\x04\x0a\x05ERROR\x03400");
    let heard = pair.right.handle_input(&told, pair.now);
    assert_eq!(heard, Err(Error::PeerError { reason: "400".into() }));
    assert_eq!(pair.left.handle_input(b"\0\0", pair.now), Err(error));
    pair.left.admit(&[], pair.now);
    assert!(!pair.left.is_ready(), "who is refused stays so");
}

#[test]
fn a_server_that_has_another_key_is_not_talked_to() {
    // It answers a HELLO that it can open, but with boxes of another key.
    let now = Instant::now();
    let mut client = Connection::new(client(SocketType::Sub, 9, Some("token")), now);
    let mut honest = Connection::new(server(SocketType::Pub, &[9]), now);
    honest.handle_input(&output(&mut client), now).unwrap();
    client.handle_input(&output(&mut honest)[..64], now).unwrap();
    honest.handle_input(&output(&mut client), now).unwrap();
    let mut welcome = output(&mut honest);
    *welcome.last_mut().unwrap() ^= 1;
    let error = client.handle_input(&welcome, now).unwrap_err();
    assert_eq!(error, Error::Unopened { command: "WELCOME" });
    assert_eq!(output(&mut client), b"", "neither its key nor its token were shown");
}

#[test]
fn what_a_side_sends_to_itself_does_not_open() {
    let mut wire = pub_and_sub();
    wire.left_seals(b"\0\x01v");
    let sealed = wire.left_seals(b"\0\x01v");
    assert_eq!(wire.left_gets(&sealed), Err(Error::Unopened { command: "MESSAGE" }));
}

#[test]
fn a_message_is_as_large_as_it_is_without_its_box() {
    let limits = |config: Config| Config { max_frame: 1000, max_message: 1500, ..config };
    for (frames, expected) in [
        (vec![1000], None),
        (vec![1000, 500], None),
        (vec![1001], Some("frame_limit")),
        (vec![1000, 501], Some("frame_limit")),
    ] {
        let right = limits(client(SocketType::Pull, 9, None));
        let mut wire = Wire::new(server(SocketType::Push, &[9]), right);
        let mut plain = Vec::new();
        for (index, size) in frames.iter().enumerate() {
            let more = u8::from(index + 1 < frames.len());
            plain.push(2 | more);
            plain.extend_from_slice(&(*size as u64).to_be_bytes());
            plain.resize(plain.len() + size, 0);
        }
        let sealed = wire.left_seals(&plain);
        let kind = wire.right_gets(&sealed).map(|events| assert_eq!(events.len(), 1));
        assert_eq!(kind.as_ref().err().map(Error::kind), expected, "{frames:?}");
    }
}

#[test]
fn frames_that_are_not_whole_are_not_sealed() {
    let mut wire = pub_and_sub();
    let mut out = Vec::new();
    for part in [&b"\0"[..], b"\0\x02a", b"\x02\0\0\0"] {
        assert_eq!(wire.sealers[0].seal(part, &mut out).unwrap_err().kind(), "malformed");
    }
    assert_eq!(out, b"");
}
