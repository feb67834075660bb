//! CURVE clients that do one thing wrong: made by hand, with the keys known.

use std::time::Instant;

use crypto_box::SalsaBox;
use crypto_box::aead::AeadInPlace;
use zafka_zmtp::{Connection, Error, Event, MAX_HANDSHAKE_COMMAND, SocketType};

use crate::curve::{ONES, keys, server};
use crate::pair::{events, output};

/// A client's side of the handshake, each part of it open to change.
#[derive(Clone)]
struct Client {
    version: [u8; 2],
    /// Its short-term key, the secret half and what it says that the public half is.
    short: [u8; 32],
    short_public: [u8; 32],
    /// The server that it believes to talk to.
    known: [u8; 32],
    signature: [u8; 64],
    hello_nonce: u64,
    cookie: [u8; 96],
    initiate_nonce: u64,
    long: [u8; 32],
    long_public: [u8; 32],
    vouched_client: [u8; 32],
    vouched_server: [u8; 32],
    metadata: Vec<u8>,
    /// Changes of finished commands.
    edit_hello: fn(&mut Vec<u8>),
    edit_initiate: fn(&mut Vec<u8>),
}

/// The other points of low order: 1, p - 1, and the two of order eight.
fn low_order() -> [[u8; 32]; 4] {
    [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    .map(|hex| std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()))
}

fn public(secret: [u8; 32]) -> [u8; 32] {
    *crypto_box::SecretKey::from(secret).public_key().as_bytes()
}

fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let size = (value.len() as u32).to_be_bytes();
    [&[name.len() as u8], name.as_bytes(), &size, value].concat()
}

/// A box of a secret and a public key.
fn boxed(theirs: [u8; 32], ours: [u8; 32], nonce: &[&[u8]], text: &[u8]) -> Vec<u8> {
    let shared = SalsaBox::new(&theirs.into(), &ours.into());
    let nonce: [u8; 24] = nonce.concat().try_into().unwrap();
    let mut text = text.to_vec();
    let tag = shared.encrypt_in_place_detached(&nonce.into(), b"", &mut text).unwrap();
    [&tag[..], &text].concat()
}

impl Client {
    /// One that is let in.
    fn good() -> Self {
        Self {
            version: [1, 0],
            short: [2; 32],
            short_public: public([2; 32]),
            known: *keys(9).public().as_bytes(),
            signature: [0; 64],
            hello_nonce: 1,
            cookie: [ONES; 96],
            initiate_nonce: 2,
            long: [50; 32],
            long_public: public([50; 32]),
            vouched_client: public([2; 32]),
            vouched_server: *keys(9).public().as_bytes(),
            metadata: property("Socket-Type", b"SUB"),
            edit_hello: |_| {},
            edit_initiate: |_| {},
        }
    }

    fn hello(&self) -> Vec<u8> {
        let nonce = self.hello_nonce.to_be_bytes();
        let signature =
            boxed(self.known, self.short, &[b"CurveZMQHELLO---", &nonce], &self.signature);
        let mut body =
            [&b"\x05HELLO"[..], &self.version, &[0; 72], &self.short_public, &nonce, &signature]
                .concat();
        (self.edit_hello)(&mut body);
        frame(4, &body)
    }

    fn initiate(&self) -> Vec<u8> {
        let server = public([ONES; 32]);
        let nonce = self.initiate_nonce.to_be_bytes();
        let vouched = [self.vouched_client, self.vouched_server].concat();
        let vouch = boxed(server, self.long, &[b"VOUCH---", &[5; 16]], &vouched);
        let text = [&self.long_public, &[5; 16][..], &vouch, &self.metadata].concat();
        let sealed = boxed(server, self.short, &[b"CurveZMQINITIATE", &nonce], &text);
        let mut body = [&b"\x08INITIATE"[..], &self.cookie, &nonce, &sealed].concat();
        (self.edit_initiate)(&mut body);
        frame(4, &body)
    }

    fn message(&self, number: u64, flags: u8, body: &[u8]) -> Vec<u8> {
        let nonce = number.to_be_bytes();
        let text = [&[flags], body].concat();
        let sealed = boxed(public([ONES; 32]), self.short, &[b"CurveZMQMESSAGEC", &nonce], &text);
        frame(0, &[&b"\x07MESSAGE"[..], &nonce, &sealed].concat())
    }
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(size) => [&[flags, size], body].concat(),
        Err(_) => [&[flags | 2], &(body.len() as u64).to_be_bytes()[..], body].concat(),
    }
}

fn greeting(mechanism: &[u8]) -> Vec<u8> {
    let mut bytes = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01".to_vec();
    bytes.extend_from_slice(mechanism);
    bytes.resize(64, 0);
    bytes
}

/// The end of a connection.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client was presented, and let in if it was to be.
    Fine,
    /// ERROR 400, then the end.
    Told,
    /// The end, without a word.
    Closed,
}

/// Feeds a server of one key whole commands, and lets in the client that is presented.
fn play(commands: &[Vec<u8>]) -> (End, Vec<Event>) {
    let now = Instant::now();
    let mut server = Connection::new(server(SocketType::Pub, &[9]), now);
    let mut all = Vec::new();
    output(&mut server);
    for command in [greeting(b"CURVE")].iter().chain(commands) {
        let outcome = server.handle_input(command, now);
        for event in events(&mut server) {
            if matches!(event, Event::Authenticate(_)) {
                server.admit(&[], now);
                assert_eq!(server.take_sealer().is_some(), outcome.is_ok());
            }
            all.push(event);
        }
        let sent = output(&mut server);
        if outcome.is_err() {
            let end = match &*sent {
                b"" => End::Closed,
                b"\x04\x0a\x05ERROR\x03400" => End::Told,
                sent => panic!("said {}", sent.escape_ascii()),
            };
            return (end, all);
        }
    }
    (End::Fine, all)
}

#[test]
fn each_forged_handshake_is_refused_and_the_honest_one_is_not() {
    let good = Client::good();
    assert_eq!(play(&[good.hello(), good.initiate()]).0, End::Fine);
    let p_plus = |low: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xed + low, 0x7f);
        bytes
    };
    let mut top_bit = good.long_public;
    top_bit[31] |= 0x80;
    let other = *keys(8).public().as_bytes();
    let text = |name: &str, value: &[u8]| {
        [property("Socket-Type", b"SUB"), property(name, value)].concat()
    };
    let with = |change: &dyn Fn(&mut Client)| {
        let mut client = good.clone();
        change(&mut client);
        client
    };
    let table: Vec<(&str, Client, End)> = vec![
        (
            "HELLO of 199",
            with(&|c| {
                c.edit_hello = |b| {
                    b.pop();
                }
            }),
            End::Closed,
        ),
        ("HELLO of 201", with(&|c| c.edit_hello = |b| b.push(0)), End::Closed),
        ("version 2.0", with(&|c| c.version = [2, 0]), End::Closed),
        ("version 1.1", with(&|c| c.version = [1, 1]), End::Closed),
        ("box under another server key", with(&|c| c.known = other), End::Closed),
        ("signature not zero", with(&|c| c.signature[63] = 1), End::Closed),
        ("HELLO's box altered", with(&|c| c.edit_hello = |b| b[199] ^= 1), End::Closed),
        ("C' zero", with(&|c| c.short_public = [0; 32]), End::Closed),
        ("C' p + 9", with(&|c| c.short_public = p_plus(9)), End::Closed),
        ("C' with its top bit", with(&|c| c.short_public[31] |= 0x80), End::Closed),
        ("cookie of another connection", with(&|c| c.cookie[95] ^= 1), End::Closed),
        ("nonce repeated", with(&|c| c.initiate_nonce = 1), End::Closed),
        ("nonce falling", with(&|c| c.hello_nonce = 3), End::Closed),
        ("nonce at its end", with(&|c| c.hello_nonce = u64::MAX), End::Closed),
        ("INITIATE of 256", with(&|c| c.edit_initiate = |b| b.truncate(256)), End::Closed),
        (
            "INITIATE of 17 KiB",
            with(&|c| c.metadata = text("X-Large", &[b'x'; 17 * 1024])),
            End::Closed,
        ),
        (
            "INITIATE's box altered",
            with(&|c| c.edit_initiate = |b| *b.last_mut().unwrap() ^= 1),
            End::Closed,
        ),
        ("vouch for another S", with(&|c| c.vouched_server = other), End::Told),
        ("vouch for another C'", with(&|c| c.vouched_client = other), End::Told),
        ("vouch of another C", with(&|c| c.long = [51; 32]), End::Told),
        ("C zero", with(&|c| c.long_public = [0; 32]), End::Told),
        ("C with its top bit", with(&|c| c.long_public = top_bit), End::Told),
        ("C p + 9", with(&|c| c.long_public = p_plus(9)), End::Told),
        ("property name of 0 bytes", with(&|c| c.metadata = text("", b"x")), End::Closed),
        (
            "value past the end",
            with(&|c| {
                c.metadata.pop();
            }),
            End::Closed,
        ),
        ("65 properties", with(&|c| c.metadata = text("a", b"").repeat(33)), End::Closed),
        ("no Socket-Type", with(&|c| c.metadata.clear()), End::Closed),
        ("Socket-Type PULL", with(&|c| c.metadata = property("Socket-Type", b"PULL")), End::Closed),
        (
            "X-Token twice, in other case",
            with(&|c| c.metadata = [text("X-Token", b"a"), property("x-toKEN", b"a")].concat()),
            End::Told,
        ),
    ];
    for (name, client, end) in table {
        assert_eq!(play(&[client.hello(), client.initiate()]).0, end, "{name}");
    }
    for point in low_order() {
        for (client, end) in [
            (with(&|c| c.short_public = point), End::Closed),
            (with(&|c| c.long_public = point), End::Told),
        ] {
            assert_eq!(play(&[client.hello(), client.initiate()]).0, end, "{point:02x?}");
        }
    }
}

#[test]
fn commands_in_another_order_are_refused() {
    let good = Client::good();
    let subscription = good.message(3, 0, b"\x01a");
    let ready = frame(4, b"\x05READY\x0bSocket-Type\0\0\0\x03SUB");
    let padded_ready = frame(4, &[&b"\x05READY"[..], &[0; 194]].concat());
    let mut unmarked = good.hello();
    unmarked[0] &= !4;
    for (name, commands) in [
        ("INITIATE first", vec![good.initiate()]),
        ("HELLO twice", vec![good.hello(), good.hello()]),
        ("INITIATE twice", vec![good.hello(), good.initiate(), good.initiate()]),
        ("MESSAGE before INITIATE", vec![good.hello(), subscription.clone()]),
        ("READY as NULL says it", vec![ready]),
        ("READY of a HELLO's size", vec![padded_ready]),
        ("HELLO without the command flag", vec![unmarked]),
        ("plain frame after READY", vec![good.hello(), good.initiate(), b"\0\x02\x01a".to_vec()]),
        (
            "plain command after READY",
            vec![good.hello(), good.initiate(), b"\x04\x0b\x09SUBSCRIBEa".to_vec()],
        ),
    ] {
        assert_eq!(play(&commands).0, End::Closed, "{name}");
    }
    // In one piece: there is no READY yet when MESSAGE comes.
    let at_once = [good.hello(), [good.initiate(), subscription.clone()].concat()];
    assert_eq!(play(&at_once).0, End::Closed, "MESSAGE before READY");
    let (end, events) = play(&[good.hello(), good.initiate(), subscription]);
    assert_eq!((end, events.len()), (End::Fine, 3), "{events:?}");
}

#[test]
fn traffic_that_no_client_may_send() {
    let good = Client::good();
    let opening = [good.hello(), good.initiate()];
    let play_after = |more: &[Vec<u8>]| play(&[&opening[..], more].concat()).0;
    let mut altered = good.message(3, 0, b"\x01a");
    *altered.last_mut().unwrap() ^= 1;
    let mut marked = good.message(3, 0, b"\x01a");
    marked[0] = 4;
    let mut more = good.message(3, 0, b"\x01a");
    more[0] = 1;
    for (name, messages, end) in [
        (
            "rising nonces, with gaps",
            vec![good.message(3, 0, b""), good.message(9, 1, b"")],
            End::Fine,
        ),
        ("RFC 26's command flag", vec![marked], End::Fine),
        ("a command in the box", vec![good.message(3, 2, b"\x09SUBSCRIBEa")], End::Fine),
        ("the last nonce", vec![good.message(u64::MAX, 0, b"")], End::Fine),
        (
            "more after it",
            vec![good.message(u64::MAX, 0, b""), good.message(0, 0, b"")],
            End::Closed,
        ),
        ("nonce repeated", vec![good.message(3, 0, b""), good.message(3, 0, b"")], End::Closed),
        ("nonce falling", vec![good.message(9, 0, b""), good.message(8, 0, b"")], End::Closed),
        ("INITIATE's nonce", vec![good.message(2, 0, b"")], End::Closed),
        ("32 bytes", vec![frame(0, &good.message(3, 0, b"")[2..34])], End::Closed),
        ("reserved flag", vec![good.message(3, 4, b"")], End::Closed),
        ("a command with more", vec![good.message(3, 3, b"")], End::Closed),
        ("no command's name", vec![good.message(3, 2, b"")], End::Closed),
        ("altered", vec![altered], End::Closed),
        ("more frames outside the box", vec![more], End::Closed),
    ] {
        assert_eq!(play_after(&messages), end, "{name}");
    }
}

#[test]
fn a_handshake_that_was_recorded_is_of_no_use() {
    // The server's short-term key and cookie are others by then.
    let good = Client::good();
    assert_eq!(play(&[good.hello(), good.initiate()]).0, End::Fine, "where it was recorded");
    let now = Instant::now();
    let config = {
        use std::sync::Arc;
        use zafka_zmtp::curve::ServerSide;
        let side = ServerSide { keys: vec![keys(9)], random: |bytes| bytes.fill(7) };
        let mechanism = zafka_zmtp::Mechanism::CurveServer(Arc::new(side));
        zafka_zmtp::Config { mechanism, ..crate::pair::config(SocketType::Pub) }
    };
    let mut server = Connection::new(config, now);
    let recorded = [greeting(b"CURVE"), good.hello()].concat();
    server.handle_input(&recorded, now).unwrap();
    assert!(server.handle_input(&good.initiate(), now).is_err());
    assert_eq!(events(&mut server), []);
}

#[test]
fn other_mechanisms_are_refused() {
    let greet = |mechanism: &[u8]| {
        let now = Instant::now();
        let mut server = Connection::new(server(SocketType::Pub, &[9]), now);
        server.handle_input(&greeting(mechanism), now)
    };
    assert_eq!(greet(b"CURVE"), Ok(()));
    for mechanism in [&b"NULL"[..], b"PLAIN", b"CURVEX"] {
        assert_eq!(greet(mechanism).unwrap_err().kind(), "mechanism");
    }
}

#[test]
fn a_large_command_is_refused_by_its_header() {
    let now = Instant::now();
    let mut connection = Connection::new(server(SocketType::Pub, &[9]), now);
    connection.handle_input(&greeting(b"CURVE"), now).unwrap();
    let header = [&[6][..], &201u64.to_be_bytes()].concat();
    let error = connection.handle_input(&header, now).unwrap_err();
    assert_eq!(error, Error::FrameTooLarge { size: 201, limit: 200 });
    let mut connection = Connection::new(server(SocketType::Pub, &[9]), now);
    connection.handle_input(&greeting(b"CURVE"), now).unwrap();
    connection.handle_input(&Client::good().hello(), now).unwrap();
    let limit = MAX_HANDSHAKE_COMMAND;
    let header = [&[6][..], &(limit as u64 + 1).to_be_bytes()].concat();
    let error = connection.handle_input(&header, now).unwrap_err();
    assert_eq!(error, Error::FrameTooLarge { size: limit as u64 + 1, limit });
}
