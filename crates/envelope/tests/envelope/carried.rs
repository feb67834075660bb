//! Messages of any list of templates read back: what they carry, and what does not fit.

use zafka_envelope::{Carried, DecodeError, FramePlan, Header, OwnedHeader, Record, Timestamp};

use crate::wire::{frames, messages};

const OFFSET: i64 = (1 << 32) + 5;
const TIME: i64 = 1_700_000_000_000;

fn record<'a>(headers: &'a [Header<'a>]) -> Record<'a> {
    Record {
        offset: OFFSET,
        prev: Some(OFFSET - 1),
        timestamp: Timestamp::Create(TIME),
        key: Some(b"k"),
        value: None,
        headers,
    }
}

fn carried(templates: &[&str]) -> Carried {
    let plan = FramePlan::parse(templates).unwrap();
    let headers = [Header { name: b"tenant", value: Some(b"a/b") }];
    let message = messages(&plan, &[record(&headers)]).remove(0);
    let decoded = plan.decoder().unwrap().decode(&frames(&message));
    decoded.unwrap_or_else(|error| panic!("{templates:?}: {error}"))
}

fn bytes(text: &str) -> Option<Option<Vec<u8>>> {
    Some(Some(text.into()))
}

#[test]
fn what_the_templates_carry() {
    let nothing = Carried::default;
    let topic = || Some("orders".to_owned());
    let header = |value: &str| OwnedHeader { name: b"tenant".to_vec(), value: Some(value.into()) };
    let whole = Carried {
        partition: Some(3),
        offset: Some(OFFSET),
        timestamp: Some(TIME),
        tells_prev: true,
        prev: Some(OFFSET - 1),
        headers: vec![header("a/b")],
        ..nothing()
    };
    for (templates, expected) in [
        (
            &["{topic}", "{value}", "{offset:u32le}"][..],
            Carried { topic: topic(), value: bytes(""), offset_low: Some(5), ..nothing() },
        ),
        (
            &["{header.tenant}/{topic}", "{offset:u64be}"],
            Carried {
                topic: topic(),
                offset: Some(OFFSET),
                headers: vec![header("a/b")],
                ..nothing()
            },
        ),
        (
            &["é {{{route}}} {partition}:{offset}@{timestamp}"],
            Carried {
                route: Some("main".to_owned()),
                partition: Some(3),
                offset: Some(OFFSET),
                timestamp: Some(TIME),
                ..nothing()
            },
        ),
        // Numbers of a fixed size end where they end.
        (
            &["{partition:u32be}{timestamp:u64le}{key}"],
            Carried { partition: Some(3), timestamp: Some(TIME), key: bytes("k"), ..nothing() },
        ),
        // With meta, null is told from empty, wherever the fields stand.
        (
            &["x", "{value}", "{key}|", "{meta}"],
            Carried { topic: topic(), key: bytes("k"), value: Some(None), ..whole.clone() },
        ),
        (&["{packed}"], Carried { key: bytes("k"), value: Some(None), ..whole.clone() }),
        (
            &["{meta}", "{packed}"],
            Carried { topic: topic(), key: bytes("k"), value: Some(None), ..whole },
        ),
        // Nobody can tell where the one ends and the other begins.
        (&["{topic}", "{key}{value}"], {
            Carried { topic: topic(), undecided: vec![(1, b"k".to_vec())], ..nothing() }
        }),
        (&["{topic}{partition:u32le}{value}"], {
            Carried { undecided: vec![(0, b"orders\x03\0\0\0".to_vec())], ..nothing() }
        }),
    ] {
        assert_eq!(carried(templates), expected, "{templates:?}");
    }
    assert!(FramePlan::preset(zafka_envelope::Preset::Batch).decoder().is_none());
}

#[test]
fn what_does_not_fit() {
    let decode = |templates: &[&str], message: &[&[u8]]| {
        FramePlan::parse(templates).unwrap().decoder().unwrap().decode(message).unwrap_err()
    };
    let template = |frame| DecodeError::Template { frame };
    for (templates, message, expected) in [
        (
            &["{topic}"][..],
            &[&b"a"[..], b"b"][..],
            DecodeError::FrameCount { found: 2, expected: 1 },
        ),
        (&["{topic}", "v{value}"], &[b"a", b"x"], template(1)),
        (&["{topic}"], &[b"\xff"], template(0)),
        (&["x{topic}"], &[b"x/"], template(0)),
        (&["{offset}"], &[b"1e3"], template(0)),
        (&["{offset}"], &[b"99999999999999999999"], template(0)),
        (&["{offset:u64le}"], &[b"1234567"], template(0)),
        (&["literal"], &[b"other"], template(0)),
        (&["{topic}", "{topic}.x"], &[b"a", b"b.x"], DecodeError::Contradiction { field: "topic" }),
        (
            &["{offset}", "{offset:u64be}"],
            &[b"1", &[0; 8]],
            DecodeError::Contradiction { field: "offset" },
        ),
    ] {
        assert_eq!(decode(templates, message), expected, "{templates:?}");
    }
    assert_eq!(template(1).to_string(), "frame 2 does not fit its template");
    let error = decode(&["{meta}"], &[b"[1]"]);
    assert!(matches!(error, DecodeError::Meta(_)), "{error}");
    let error = decode(&["{packed}"], &[b"short"]);
    assert!(matches!(error, DecodeError::Truncated { .. }), "{error}");
}
