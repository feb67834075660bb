//! CURVE handshakes and traffic of libzmq 4.3.5, both as the client and as the server. How they
//! were made: see `curve/README.md`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use zafka_zmtp::curve::Sealer;
use zafka_zmtp::{Config, Connection, Event, SocketType};

use crate::curve::{client, keys, server};
use crate::pair::events;

/// The turns of a recording.
fn turns(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path.join(format!("tests/it/recorded/curve/{name}.txt")));
    let mut turns: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text.unwrap().lines() {
        let Some(hex) = line.strip_prefix("  ") else {
            turns.push((line.to_owned(), Vec::new()));
            continue;
        };
        let octets = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let octets = octets.map(|pair| u8::from_str_radix(pair, 16).unwrap());
        turns.last_mut().unwrap().1.extend(octets);
    }
    turns
}

/// Our side of a recorded connection.
struct Side {
    connection: Connection,
    sealer: Option<Sealer>,
    wire: Vec<u8>,
    events: Vec<Event>,
    now: Instant,
}

impl Side {
    fn put(&mut self, frames: &[u8]) {
        match &mut self.sealer {
            Some(sealer) => sealer.seal(frames, &mut self.wire).unwrap(),
            None => self.wire.extend_from_slice(frames),
        }
    }

    fn take_output(&mut self) {
        while let Some(output) = self.connection.poll_output() {
            self.put(&output);
        }
        if let Some(sealer) = self.connection.take_sealer() {
            self.sealer = Some(sealer);
            self.take_output();
        }
    }

    fn take(&mut self, input: &[u8]) {
        self.connection.handle_input(input, self.now).unwrap();
        for event in events(&mut self.connection) {
            if matches!(event, Event::Authenticate(_)) {
                self.connection.admit(&[("X-Zafka-Subject", "alice")], self.now);
                self.events.extend(events(&mut self.connection));
            }
            self.events.push(event);
        }
        self.take_output();
    }
}

/// The events of a recording; what we send is compared octet by octet.
fn replay(name: &str, config: &Config, subscription: Option<&[u8]>) -> Vec<Event> {
    let turns = turns(name);
    let mut results = [usize::MAX, 1].into_iter().map(|step| {
        let now = Instant::now();
        let connection = Connection::new(config.clone(), now);
        let mut side = Side { connection, sealer: None, wire: Vec::new(), events: vec![], now };
        if let Some(prefix) = subscription {
            side.connection.subscribe(prefix);
        }
        side.take_output();
        for (index, (who, bytes)) in turns.iter().enumerate() {
            match who.as_str() {
                "libzmq" => bytes.chunks(step).for_each(|piece| side.take(piece)),
                "plain" => side.put(bytes),
                "ours" => assert_eq!(std::mem::take(&mut side.wire), *bytes, "{name}, {index}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(side.wire, b"", "{name}: there is more than was recorded");
        side.events
    });
    let whole = results.next().unwrap();
    assert_eq!(results.next().unwrap(), whole, "{name}");
    whole
}

fn message(frames: &[&[u8]]) -> Event {
    Event::Message(frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect())
}

/// The client that was presented and let in, and what it said after that.
fn of_client(name: &str, ours: SocketType) -> (SocketType, Bytes, Vec<Event>) {
    let mut events = replay(name, &server(ours, &[9]), None).into_iter();
    let peers = [events.next(), events.next()].map(|event| match event {
        Some(Event::Authenticate(peer) | Event::Ready(peer)) => peer,
        other => panic!("{other:?}"),
    });
    let [ready, presented] = peers;
    assert_eq!(ready, presented);
    assert_eq!(ready.key, Some(keys(50).public()));
    (ready.socket_type, ready.identity, events.collect())
}

#[test]
fn sub_to_our_pub() {
    let (socket_type, _, events) = of_client("sub", SocketType::Pub);
    assert_eq!(socket_type, SocketType::Sub);
    assert_eq!(events, [Event::Subscribe(Bytes::from_static(b"orders"))]);
}

#[test]
fn dealer_to_our_router() {
    let (socket_type, identity, events) = of_client("dealer", SocketType::Router);
    assert_eq!((socket_type, &identity[..]), (SocketType::Dealer, &b"me"[..]));
    assert_eq!(events, [message(&[b"a", b"b"])]);
}

/// The events from libzmq as server.
fn of_server(name: &str, ours: SocketType, subscription: Option<&[u8]>) -> Vec<Event> {
    let mut events = replay(name, &client(ours, 9, None), subscription).into_iter();
    let Some(Event::Ready(peer)) = events.next() else { panic!("no Ready") };
    assert_eq!(peer.key, Some(keys(9).public()));
    events.collect()
}

#[test]
fn our_sub_to_xpub() {
    let events = of_server("xpub", SocketType::Sub, Some(b"orders"));
    assert_eq!(events, [message(&[b"orders", b"1"]), message(&[b"orders", &[b'v'; 300]])]);
}

#[test]
fn our_dealer_to_router() {
    assert_eq!(of_server("router", SocketType::Dealer, None), [message(&[b"OK"])]);
}
