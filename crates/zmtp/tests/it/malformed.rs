//! Input that no peer may send, and the octet at which it is noticed.

use std::time::Instant;

use zafka_zmtp::{
    Config, Connection, Error, FoundVersion, MAX_HANDSHAKE_COMMAND, MAX_MESSAGE_FRAMES, SocketType,
};

use crate::pair::config;
use crate::recorded::greeting;

const READY_PUSH: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH";

/// Feeds `before`, which must pass, then `input` byte by byte: the error, and after how many bytes.
fn refuse(config: Config, before: &[u8], input: &[u8]) -> (Error, usize) {
    let now = Instant::now();
    let mut whole = Connection::new(config.clone(), now);
    whole.handle_input(before, now).unwrap();
    let at_once = whole.handle_input(input, now).expect_err(&input.escape_ascii().to_string());
    let mut connection = Connection::new(config, now);
    connection.handle_input(before, now).unwrap();
    for (index, octet) in input.iter().enumerate() {
        if let Err(error) = connection.handle_input(&[*octet], now) {
            assert_eq!(error, at_once, "the same error for every split");
            return (error, index + 1);
        }
    }
    panic!("taken: {}", input.escape_ascii());
}

#[test]
fn other_versions_and_protocols_are_refused_at_the_first_octet_that_shows_them() {
    let version = |found| Error::Version { found };
    let mut long_identity = vec![0xff, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    long_identity.resize(300, 7);
    let v2 = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x02";
    let table: &[(&str, &[u8], Error, usize)] = &[
        ("ZMTP 1.0, anonymous", b"\x01\x00", version(FoundVersion::NoSignature { first: 1 }), 1),
        ("HTTP", b"GET / HTTP/1.1\r\n", version(FoundVersion::NoSignature { first: b'G' }), 1),
        ("TLS", b"\x16\x03\x01", version(FoundVersion::NoSignature { first: 0x16 }), 1),
        ("ZMTP 1.0, long identity", &long_identity, version(FoundVersion::V1), 10),
        ("ZMTP 2.0", v2, version(FoundVersion::Revision(1)), 11),
        ("revision 0", b"\xff\0\0\0\0\0\0\0\x01\x7f\0", version(FoundVersion::Revision(0)), 11),
        ("revision 2", b"\xff\0\0\0\0\0\0\0\x01\x7f\x02", version(FoundVersion::Revision(2)), 11),
    ];
    for (name, input, expected, after) in table {
        let refused = refuse(config(SocketType::Pub), b"", input);
        assert_eq!(refused, (expected.clone(), *after), "{name}");
        assert_eq!(expected.kind(), "version");
    }
    let (error, after) = refuse(config(SocketType::Pub), b"", b"\xff\0\0\0\0\0\0\0\x01\x01");
    assert_eq!((error.kind(), after), ("malformed", 10));
}

#[test]
fn another_mechanism_is_named() {
    let table: &[(&[u8], &str)] = &[
        (b"PLAIN", "PLAIN"),
        (b"CURVE", "CURVE"),
        (b"NULLX", "NULLX"),
        (b"\x1b\0N", "\\x1b\\x00N"),
        (b"", ""),
    ];
    for (name, shown) in table {
        let mut input = greeting(1, 1);
        input[12..32].fill(0);
        input[12..12 + name.len()].copy_from_slice(name);
        let (error, after) = refuse(config(SocketType::Pub), b"", &input);
        assert_eq!(error, Error::Mechanism { ours: "NULL", theirs: (*shown).into() });
        assert_eq!(after, 32);
    }
}

/// A command frame with this body.
fn command(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![6];
    frame.extend_from_slice(&(body.len() as u64).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A property.
fn property(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[name.len() as u8], name, &(value.len() as u32).to_be_bytes(), value].concat()
}

#[test]
fn broken_handshakes() {
    let socket_type = property(b"Socket-Type", b"PUSH");
    let ready = |rest: &[u8]| command(&[b"\x05READY", rest].concat());
    let and = |more: Vec<u8>| ready(&[&socket_type[..], &more].concat());
    let many: Vec<u8> = (0..64).flat_map(|_| property(b"X", b"")).collect();
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("message", b"\x00\x01a".to_vec(), "malformed", "a message where a command"),
        ("empty command", command(b""), "malformed", "no name"),
        ("name of no letters", command(b"\0"), "malformed", "letters are allowed"),
        ("name too long", command(b"\x06READY"), "malformed", "a name of 6 bytes in a body of 6"),
        ("name not letters", command(b"\x02A1"), "malformed", "letters are allowed"),
        ("another command", command(b"\x04PING\0\0"), "malformed", "PING where READY"),
        ("of another mechanism", command(b"\x05HELLO"), "malformed", "HELLO where READY"),
        ("no socket type", ready(b""), "malformed", "without Socket-Type"),
        (
            "unknown socket type",
            ready(&property(b"Socket-Type", b"push")),
            "socket_type",
            "\"push\"",
        ),
        ("other socket type", ready(&property(b"Socket-Type", b"PUB")), "socket_type", "\"PUB\""),
        ("two socket types", and(property(b"SOCKET-TYPE", b"PUSH")), "malformed", "twice"),
        (
            "two identities",
            and([property(b"Identity", b"a"), property(b"identity", b"a")].concat()),
            "malformed",
            "twice",
        ),
        ("long identity", and(property(b"Identity", &[7; 256])), "malformed", "256 bytes"),
        ("no property name", and(property(b"", b"")), "malformed", "the name \"\""),
        ("bad property name", and(property(b"a b", b"")), "malformed", "\"a b\""),
        ("name cut", and(b"\x05abc".to_vec()), "malformed", "a name of 5 bytes where 3"),
        ("size cut", and(b"\x01a\0\0\0".to_vec()), "malformed", "within the size"),
        ("value cut", and(b"\x01a\0\0\0\x02v".to_vec()), "malformed", "value of 2 bytes where 1"),
        ("huge value", and(b"\x01a\xff\xff\xff\xffv".to_vec()), "malformed", "4294967295"),
        ("many properties", and(many), "malformed", "more than 64"),
        ("error", command(b"\x05ERROR\x02no"), "peer_error", "\"no\""),
        ("error with control octets", command(b"\x05ERROR\x02\n\0"), "peer_error", "n\\\\x00"),
        (
            "error, reason cut",
            command(b"\x05ERROR\x03no"),
            "malformed",
            "3 bytes in the place of 2",
        ),
        ("error without reason", command(b"\x05ERROR"), "malformed", "no reason"),
    ];
    for (name, input, kind, says) in table {
        let (error, after) = refuse(config(SocketType::Pull), &greeting(1, 1), &input);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(after <= input.len());
    }
}

#[test]
fn broken_traffic() {
    let ready = [&greeting(1, 1)[..], READY_PUSH].concat();
    let table: &[(&str, &[u8], &str, &str, usize)] = &[
        ("reserved flag", b"\x08\x00", "malformed", "flags 0x08", 2),
        ("all flags", b"\xff\0\0\0\0\0\0\0\0", "malformed", "flags 0xff", 9),
        ("a command with more", b"\x05\x05\x04PONG", "malformed", "flags 0x05", 2),
        ("empty command", b"\x04\x00", "malformed", "no name", 2),
        ("command name cut", b"\x04\x02\x05A", "malformed", "a name of 5 bytes", 4),
        ("ping without time to live", b"\x04\x06\x04PING\0", "malformed", "1 bytes of data", 8),
        (
            "ping, long context",
            b"\x04\x18\x04PING\0\x000123456789abcdefg",
            "malformed",
            "17 bytes",
            26,
        ),
        ("error", b"\x04\x09\x05ERROR\x02no", "peer_error", "no", 11),
    ];
    for (name, input, kind, says, at) in table {
        let (error, after) = refuse(config(SocketType::Pull), &ready, input);
        assert_eq!((error.kind(), after), (*kind, *at), "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
}

#[test]
fn limits_are_kept_before_anything_is_buffered() {
    let mut ours = config(SocketType::Pull);
    ours.max_frame = 100;
    ours.max_message = 150;
    let ready = [&greeting(1, 1)[..], READY_PUSH].concat();
    let full = [&b"\x01\x64"[..], &[7; 100]].concat();
    let large = |size| Error::FrameTooLarge { size, limit: 100 };
    let table: Vec<(&str, Vec<u8>, Error, usize)> = vec![
        ("frame", b"\x00\x65".to_vec(), large(101), 2),
        ("command", b"\x04\x65".to_vec(), large(101), 2),
        ("the largest", b"\x02\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), large(u64::MAX), 9),
        (
            "message",
            [&full[..], b"\x00\x33"].concat(),
            Error::MessageTooLarge { size: 151, limit: 150 },
            full.len() + 2,
        ),
        (
            "frames",
            [0x01, 0x00].repeat(MAX_MESSAGE_FRAMES + 1),
            Error::TooManyFrames { limit: MAX_MESSAGE_FRAMES },
            2 * MAX_MESSAGE_FRAMES + 2,
        ),
    ];
    for (name, input, expected, after) in table {
        assert_eq!(expected.kind(), "frame_limit");
        assert_eq!(refuse(ours.clone(), &ready, &input), (expected, after), "{name}");
    }
    // What just fits is taken, again and again.
    let now = Instant::now();
    let mut connection = Connection::new(ours, now);
    connection.handle_input(&ready, now).unwrap();
    let fits = [&full[..], b"\x00\x32", &[7; 50]].concat();
    connection.handle_input(&fits.repeat(3), now).unwrap();
    connection
        .handle_input(&[&[1, 0].repeat(MAX_MESSAGE_FRAMES - 1)[..], &[0, 0]].concat(), now)
        .unwrap();
}

#[test]
fn handshake_commands_have_a_limit_of_their_own() {
    let mut input = vec![6];
    let size = MAX_HANDSHAKE_COMMAND as u64 + 1;
    input.extend_from_slice(&size.to_be_bytes());
    let (error, after) = refuse(config(SocketType::Pull), &greeting(1, 1), &input);
    assert_eq!((error, after), (Error::FrameTooLarge { size, limit: MAX_HANDSHAKE_COMMAND }, 9));
}
