//! Traffic between two sides that are ready.

use std::slice;

use bytes::Bytes;
use zafka_zmtp::frame::{Position, put_header};
use zafka_zmtp::{Connection, Discarded, Error, Event, MAX_MESSAGE_FRAMES, Minor, SocketType};

use crate::pair::{Pair, config, events, output};

#[test]
fn every_valid_pair_of_types_gets_ready_and_every_other_is_refused() {
    for ours in SocketType::ALL {
        for theirs in SocketType::ALL {
            let mut left = config(ours);
            left.identity = Bytes::from_static(b"left");
            let mut pair = Pair::new(left, config(theirs));
            let result = pair.exchange();
            if !ours.accepts(theirs) {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), "socket_type", "{ours} and {theirs}");
                continue;
            }
            result.unwrap();
            let Some(Event::Ready(peer)) = pair.right.poll_event() else { panic!("no Ready") };
            assert_eq!((peer.socket_type, peer.minor), (ours, Minor::One));
            let known = matches!(ours, SocketType::Req | SocketType::Dealer | SocketType::Router);
            assert_eq!(peer.identity, if known { &b"left"[..] } else { b"" });
            assert!(pair.left.is_ready() && pair.right.is_ready());
        }
    }
}

#[test]
fn a_refused_peer_is_told_why_before_the_close() {
    let mut pair = Pair::new(config(SocketType::Pub), config(SocketType::Pull));
    let hello = output(&mut pair.right);
    pair.left.handle_input(&hello, pair.now).unwrap();
    let answer = output(&mut pair.left);
    pair.right.handle_input(&answer, pair.now).unwrap_err();
    let ready = output(&mut pair.right);
    let error = pair.left.handle_input(&ready, pair.now).unwrap_err();
    let expected = Error::IncompatibleSocket { ours: SocketType::Pub, theirs: "PULL".into() };
    assert_eq!(error, expected);
    assert!(!pair.left.is_ready());
    assert_eq!(output(&mut pair.left), b"\x04\x1a\x05ERROR\x13Invalid socket type");
    assert_eq!(pair.left.handle_input(b"x", pair.now), Err(expected));
    assert_eq!(pair.left.poll_timeout(), None);
}

#[test]
fn subscriptions_wait_for_the_handshake_and_come_in_order() {
    for (ours, theirs) in [(SocketType::Sub, SocketType::Pub), (SocketType::XSub, SocketType::XPub)]
    {
        let mut pair = Pair::new(config(ours), config(theirs));
        pair.left.subscribe(b"a");
        pair.left.cancel(b"a");
        pair.exchange().unwrap();
        pair.left.subscribe(&[7; 300]);
        pair.exchange().unwrap();
        let got = events(&mut pair.right);
        assert!(matches!(got[0], Event::Ready(_)));
        assert_eq!(
            got[1..],
            [
                Event::Subscribe(Bytes::from_static(b"a")),
                Event::Cancel(Bytes::from_static(b"a")),
                Event::Subscribe(Bytes::from(vec![7; 300])),
            ]
        );
    }
}

#[test]
fn messages_come_whole() {
    let mut pair = Pair::ready(config(SocketType::Pull), config(SocketType::Push));
    let mut bytes = Vec::new();
    put_header(&mut bytes, Position::More, 0);
    put_header(&mut bytes, Position::More, 300);
    bytes.extend_from_slice(&[5; 300]);
    pair.left.handle_input(&bytes, pair.now).unwrap();
    assert_eq!(pair.left.poll_event(), None);
    pair.left.handle_input(b"\x00\x03end", pair.now).unwrap();
    let message = vec![Bytes::new(), Bytes::from(vec![5; 300]), Bytes::from_static(b"end")];
    assert_eq!(events(&mut pair.left), [Event::Message(message)]);
}

#[test]
fn a_publisher_takes_subscriptions_in_both_forms_and_drops_messages() {
    let mut pair = Pair::ready(config(SocketType::Pub), config(SocketType::Sub));
    let input: &[&[u8]] = &[
        b"\x00\x02\x01a", // as messages
        b"\x00\x02\x00a",
        b"\x04\x0b\x09SUBSCRIBEb", // as commands
        b"\x04\x08\x06CANCELb",
        b"\x00\x05hello", // no subscription
        b"\x00\x00",
        b"\x01\x02hi\x00\x02\x01c", // in a message of two frames
        b"\x04\x0a\x09SUBSCRIBE",   // to everything
        b"\x00\x01\x01",
    ];
    pair.left.handle_input(&input.concat(), pair.now).unwrap();
    let prefix = Bytes::from_static;
    assert_eq!(
        events(&mut pair.left),
        [
            Event::Subscribe(prefix(b"a")),
            Event::Cancel(prefix(b"a")),
            Event::Subscribe(prefix(b"b")),
            Event::Cancel(prefix(b"b")),
            Event::Subscribe(prefix(b"c")),
            Event::Subscribe(prefix(b"")),
            Event::Subscribe(prefix(b"")),
        ]
    );
}

#[test]
fn an_xpub_gives_messages_and_subscriptions() {
    let mut pair = Pair::ready(config(SocketType::XPub), config(SocketType::XSub));
    pair.left.handle_input(b"\x01\x02\x01a\x01\x02hi\x00\x02yo", pair.now).unwrap();
    let message = vec![Bytes::from_static(b"hi"), Bytes::from_static(b"yo")];
    assert_eq!(
        events(&mut pair.left),
        [Event::Subscribe(Bytes::from_static(b"a")), Event::Message(message)]
    );
}

#[test]
fn commands_that_mean_nothing_here_are_ignored() {
    let mut pair = Pair::ready(config(SocketType::Pull), config(SocketType::Push));
    let input = b"\x04\x0b\x09SUBSCRIBEb\x04\x05\x04JOIN\x04\x05\x04PONG\x00\x01m";
    pair.left.handle_input(input, pair.now).unwrap();
    assert_eq!(events(&mut pair.left), [Event::Message(vec![Bytes::from_static(b"m")])]);
}

#[test]
fn a_ping_is_answered_also_between_the_frames_of_a_message() {
    let mut pair = Pair::ready(config(SocketType::Pull), config(SocketType::Push));
    let input = b"\x01\x01a\x04\x0b\x04PING\x00\x00ctxt\x00\x01b";
    pair.left.handle_input(input, pair.now).unwrap();
    assert_eq!(output(&mut pair.left), b"\x04\x09\x04PONGctxt");
    let message = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    assert_eq!(events(&mut pair.left), [Event::Message(message)]);
}

/// A message as it goes over the wire.
fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let is_last = index + 1 == frames.len();
        put_header(&mut bytes, if is_last { Position::Last } else { Position::More }, frame.len());
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// The events of a connection; messages that came together one by one.
fn one_by_one(connection: &mut Connection) -> Vec<Event> {
    let each = |event| match event {
        Event::Messages(messages) => (0..messages.len())
            .map(|index| {
                Event::Message(messages.frames(index).map(Bytes::copy_from_slice).collect())
            })
            .collect(),
        other => vec![other],
    };
    events(connection).into_iter().flat_map(each).collect()
}

#[test]
fn messages_that_come_together_are_the_same_as_one_by_one() {
    let large = [5; 300];
    let sent: [&[&[u8]]; 5] = [&[b"a"], &[b"", b"b", &large], &[b""], &[&large], &[b"c", b"d"]];
    let bytes: Vec<u8> = sent.iter().flat_map(|frames| message(frames)).collect();
    for (size, is_kept) in (1..=bytes.len()).flat_map(|size| [(size, false), (size, true)]) {
        let mut told = Vec::new();
        let mut pair = Pair::ready(config(SocketType::Push), config(SocketType::Pull));
        pair.right.gather();
        for piece in bytes.chunks(size) {
            match is_kept {
                true => pair.right.handle_block(&mut piece.to_vec(), pair.now).unwrap(),
                false => pair.right.handle_input(piece, pair.now).unwrap(),
            }
            told.extend(one_by_one(&mut pair.right));
        }
        let all = |frames: &&[&[u8]]| {
            Event::Message(frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect())
        };
        assert_eq!(told, sent.iter().map(all).collect::<Vec<_>>(), "pieces of {size}");
        assert_eq!(pair.right.buffered(), 0, "pieces of {size}");
    }
    // What came before a mistake is told.
    let mut pair = Pair::ready(config(SocketType::Push), config(SocketType::Pull));
    pair.right.gather();
    let mistaken = [&*message(&[b"a"]), &[0xf8, 0]].concat();
    assert!(pair.right.handle_input(&mistaken, pair.now).is_err());
    assert_eq!(one_by_one(&mut pair.right).len(), 1);
}

#[test]
fn what_is_too_large_is_thrown_away_and_told() {
    let mut pull = config(SocketType::Pull);
    (pull.max_frame, pull.max_message) = (100, 100);
    let (long, fits) = ([7; 60], [7; 90]);
    let told = |head: &[&'static [u8]], frames, size| {
        let head = head.iter().map(|frame| Bytes::from_static(frame)).collect();
        Event::TooLarge(Discarded { head, frames, size })
    };
    let cases: [(&[&[u8]], Event); 4] = [
        (&[b"id", b"t", &[7; 200]], told(&[b"id", b"t"], 3, 203)),
        (&[&[7; 101]], told(&[], 1, 101)),
        // Each frame fits, all of them do not: what follows is not kept either.
        (&[b"id", b"", &fits, &long, b"x"], told(&[b"id", b"", &[7; 90]], 5, 153)),
        (&[b"", b"v"], Event::Message(vec![Bytes::new(), Bytes::from_static(b"v")])),
    ];
    for (step, together) in [1, 7, 1_000].into_iter().flat_map(|step| [(step, false), (step, true)])
    {
        let mut pair = Pair::ready(config(SocketType::Push), pull.clone());
        pair.right.discard_up_to(1_000);
        if together {
            pair.right.gather();
        }
        for (frames, expected) in &cases {
            for piece in message(frames).chunks(step) {
                pair.right.handle_input(piece, pair.now).unwrap();
                assert!(pair.right.buffered() <= 600, "{}", pair.right.buffered());
            }
            assert_eq!(one_by_one(&mut pair.right), slice::from_ref(expected), "pieces of {step}");
        }
        let error = pair.right.handle_input(&message(&[&[0; 900], &[0; 200]]), pair.now);
        assert_eq!(error, Err(Error::MessageTooLarge { size: 1_100, limit: 1_000 }));
    }
    let mut pair = Pair::ready(config(SocketType::Push), pull);
    pair.right.discard_up_to(u64::MAX);
    let many = vec![&long[..]; MAX_MESSAGE_FRAMES + 1];
    let error = pair.right.handle_input(&message(&many), pair.now);
    assert_eq!(error, Err(Error::TooManyFrames { limit: MAX_MESSAGE_FRAMES }));
}
