//! Each kind of violation is found, and a faultless delivery is not accused.

use std::collections::BTreeMap;

use super::{Checker, Received, Session, decode_json};
use crate::sequence::Produced;

fn message(offset: i64) -> Received {
    Received {
        topic: "orders".into(),
        prev: (offset > 0).then_some(offset - 1),
        offset,
        key: Some(b"k".to_vec()),
        value: Some(format!("value {offset}").into_bytes()),
        ..Received::default()
    }
}

fn messages(offsets: &[i64]) -> Vec<Received> {
    offsets.iter().copied().map(message).collect()
}

fn checker() -> Checker {
    let mut checker = Checker::new();
    for offset in 0..5 {
        let value = format!("value {offset}");
        let at = Produced { partition: 0, offset };
        checker.expect_payload("orders", at, Some(b"k"), Some(value.as_bytes()));
    }
    checker
}

fn floor(offset: i64) -> BTreeMap<(String, i32), i64> {
    BTreeMap::from([(("orders".to_owned(), 0), offset)])
}

#[test]
fn a_faultless_delivery_passes() {
    checker().assert(&[Session::new(messages(&[0, 1, 2, 3, 4]))]);
    let again = Session::above(messages(&[2, 3, 4]), floor(2));
    checker().assert(&[Session::new(messages(&[0, 1, 2, 3])), again]);
}

#[test]
fn every_violation_is_found() {
    let without_prev = |offsets: &[i64]| {
        let strip = |m: Received| Received { prev: None, ..m };
        messages(offsets).into_iter().map(strip).collect::<Vec<_>>()
    };
    let changed = |change: fn(&mut Received)| {
        let mut all = messages(&[0, 1, 2, 3, 4]);
        change(&mut all[2]);
        all
    };
    let all = || Session::new(messages(&[0, 1, 2, 3, 4]));
    let cases: Vec<(&str, Vec<Session>, &str)> = vec![
        ("nothing", vec![], "missing: orders/0: 5 of 5 records: 0-4"),
        ("a hole", vec![Session::new(without_prev(&[0, 1, 4]))], "records: 2-3"),
        (
            "a hole by prev",
            vec![Session::new(messages(&[0, 1, 4]))],
            "@4 names 3, but 1 came before",
        ),
        (
            "a repeat",
            vec![Session::new(messages(&[0, 1, 1, 2, 3, 4]))],
            "order: session 0: orders/0@1",
        ),
        ("a swap", vec![Session::new(without_prev(&[0, 2, 1, 3, 4]))], "@1 came after 2"),
        (
            "below the floor",
            vec![all(), Session::above(messages(&[1, 2]), floor(2))],
            "floor: session 1: orders/0@1",
        ),
        (
            "a stranger",
            vec![Session::new(messages(&[0, 1, 2, 3, 4, 5]))],
            "foreign: session 0: orders/0@5",
        ),
        (
            "wrong value",
            vec![Session::new(changed(|m| m.value = Some(b"value 3".to_vec())))],
            "value differs at byte 6",
        ),
        (
            "a cut value",
            vec![Session::new(changed(|m| m.value = Some(b"val".to_vec())))],
            "value differs at byte 3",
        ),
        (
            "null for a value",
            vec![Session::new(changed(|m| m.value = None))],
            "value is null, not 7 bytes",
        ),
        (
            "wrong key",
            vec![Session::new(changed(|m| m.key = Some(vec![])))],
            "key differs at byte 0",
        ),
        (
            "wrong prev",
            vec![Session::new(changed(|m| m.prev = Some(0)))],
            "prev: session 0: orders/0@2 names 0",
        ),
        (
            "a prev that was never written",
            vec![all(), Session::new(vec![Received { prev: Some(0), ..message(3) }])],
            "but 2 was written before it",
        ),
    ];
    for (name, sessions, expected) in cases {
        let found = checker().check(&sessions).join("\n");
        assert!(found.contains(expected), "{name}: {expected:?} is not in:\n{found}");
    }
}

#[test]
fn a_flood_is_summed_up() {
    let sessions = [Session::new(messages(&(5..105).collect::<Vec<_>>()))];
    let found = checker().check(&sessions);
    assert!(found.iter().any(|v| v == "foreign: session 0: 100 in all"), "{found:#?}");
    assert!(found.len() < 20, "{found:#?}");
}

#[test]
fn the_json_envelope_is_read_strictly() {
    let frames = |meta: &str, key: &[u8]| {
        vec![b"orders".to_vec(), meta.as_bytes().to_vec(), key.to_vec(), b"v".to_vec()]
    };
    let meta = r#"{"v":1,"topic":"orders","partition":3,"offset":7,"timestamp":9,"prev":5,"null_key":true,
        "headers":[["a","x"],["a",null],[{"base64":"/w=="},{"base64":"/wA="}]],
        "timestamp_type":"log_append"}"#;
    let expected = Received {
        topic: "orders".into(),
        partition: 3,
        offset: 7,
        prev: Some(5),
        timestamp: 9,
        log_append: true,
        key: None,
        value: Some(b"v".to_vec()),
        headers: vec![
            (b"a".to_vec(), Some(b"x".to_vec())),
            (b"a".to_vec(), None),
            (vec![0xff], Some(vec![0xff, 0])),
        ],
    };
    assert_eq!(decode_json(&frames(meta, b"")), Ok(expected));
    let wrong = [
        frames(meta, b"not null"),
        frames("{}", b""),
        frames("nonsense", b""),
        frames(&meta.replace("\"orders\"", "\"other\""), b""),
        frames(&meta.replace("\"v\":1", "\"v\":2"), b""),
        frames(&meta.replace("\"offset\":7,", ""), b""),
        frames(meta, b"")[..3].to_vec(),
    ];
    for frames in wrong {
        assert!(decode_json(&frames).is_err(), "{frames:?}");
    }
}
