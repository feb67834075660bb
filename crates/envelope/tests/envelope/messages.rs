//! Beginning and end of messages in the buffer, and what is reported of them.

use zafka_envelope::{BATCH_LIMIT, Encoded, FramePlan, Header, Preset, Record, Timestamp};
use zafka_zmtp::frame::{LONG, MORE};

use crate::wire::{encode, messages, split};

fn record(offset: i64, value: &[u8]) -> Record<'_> {
    Record {
        offset,
        prev: None,
        timestamp: Timestamp::Create(1),
        key: None,
        value: Some(value),
        headers: &[],
    }
}

#[test]
fn the_wire_bytes() {
    let mut encoder = FramePlan::preset(Preset::Value).encoder("r", "ab", 0);
    let mut out = encode(&mut encoder, &[record(0, b"xyz")]);
    assert_eq!(out.bytes, b"\x01\x02ab\x00\x03xyz");
    let long = [7; 256];
    encoder.encode(&record(1, &long), &mut out);
    assert_eq!(out.bytes[9..][..13], *b"\x01\x02ab\x02\0\0\0\0\0\0\x01\0");
    assert_eq!(out.ends, [9, 9 + 4 + 9 + 256]);

    let list = FramePlan::parse(&["{value}|", ""]).unwrap();
    for (size, header) in [(254, &[MORE, 255][..]), (255, &[MORE | LONG, 0, 0, 0, 0, 0, 0, 1, 0])] {
        let out = encode(&mut list.encoder("r", "ab", 0), &[record(0, &long[..size])]);
        assert!(out.bytes.starts_with(header), "{size}: {:?}", &out.bytes[..9]);
        assert!(out.bytes.ends_with(b"|\0\0"));
    }
}

#[test]
fn same_routing() {
    let by_value = FramePlan::parse(&["{value}", "x"]).unwrap();
    assert_eq!(by_value.routing_frame("r", "t", 0), None);
    let large = [b'a'; 300];
    let cases: [(&[&[u8]], bool); 6] = [
        (&[], true),
        (&[b"a"], true),
        (&[b"a", b"a"], true),
        (&[b"a", b"b"], false),
        (&[b"a", b"b", b"a"], false),
        (&[&large, &large], true),
    ];
    for (values, same) in cases {
        let records: Vec<_> = values.iter().map(|value| record(0, value)).collect();
        assert_eq!(
            encode(&mut by_value.encoder("r", "t", 0), &records).same_routing,
            same,
            "{values:?}"
        );
    }
    for (list, routing) in [("{topic}", "t"), ("{route}.{topic}.{partition}", "r.t.5"), ("", "")] {
        let plan = FramePlan::parse(&[list, "{value}"]).unwrap();
        assert_eq!(plan.routing_frame("r", "t", 5), Some(routing.as_bytes().to_vec()));
    }
    for preset in Preset::ALL {
        let plan = FramePlan::preset(preset);
        assert_eq!(plan.routing_frame("r", "t", 5), Some(b"t".to_vec()), "{preset}");
    }
}

#[test]
fn a_batch_is_open_until_it_is_finished() {
    let mut encoder = FramePlan::preset(Preset::Batch).encoder("r", "t", 0);
    let mut out = Encoded::default();
    encoder.finish(&mut out);
    assert_eq!(out, Encoded::default(), "nothing to finish");
    encoder.encode(&record(0, b"a"), &mut out);
    encoder.encode(&record(1, b"b"), &mut out);
    assert!(out.ends.is_empty());
    encoder.finish(&mut out);
    let first = out.clone();
    encoder.finish(&mut out);
    assert_eq!(out, first, "finished once");
    encoder.encode(&record(2, b"c"), &mut out);
    encoder.finish(&mut out);
    assert_eq!(split(&out).len(), 2);
    assert_eq!(out.records, 3);
}

#[test]
fn a_batch_stays_within_its_limit() {
    let value = [1; 700];
    let records: Vec<_> = (0..1000).map(|offset| record(offset, &value)).collect();
    let messages = messages(&FramePlan::preset(Preset::Batch), &records);
    assert_eq!(messages.len(), (1000 * 752usize).div_ceil(BATCH_LIMIT / 752 * 752));
    for message in &messages {
        assert!(message[1].len() <= BATCH_LIMIT);
    }
}

#[test]
fn missing_headers_are_counted_for_each_field() {
    let plan = FramePlan::parse(&["{header.a}", "{header.a}{header.b}"]).unwrap();
    let headers = [Header { name: b"b", value: Some(b"1") }, Header { name: b"b", value: None }];
    let records = [record(0, b""), Record { headers: &headers, ..record(1, b"") }];
    assert_eq!(encode(&mut plan.encoder("r", "t", 0), &records).headers_missing, 6);
    assert_eq!(encode(&mut plan.encoder("r", "t", 0), &[]).headers_missing, 0);
}

#[test]
fn another_name_in_the_routing_frame_alone() {
    let list = FramePlan::parse(&["{topic}/{partition}", "{topic}", "{value}"]).unwrap();
    for (plan, expected) in [
        (FramePlan::preset(Preset::Value), &[&b"new"[..], b"v"][..]),
        (list, &[b"new/3", b"old", b"v"]),
    ] {
        let mut encoder = plan.encoder_as("r", "old", "new", 3);
        assert_eq!(split(&encode(&mut encoder, &[record(0, b"v")])), [expected]);
    }
    for preset in [Preset::Json, Preset::Packed, Preset::Batch] {
        let plan = FramePlan::preset(preset);
        let renamed =
            split(&encode(&mut plan.encoder_as("r", "old", "new", 3), &[record(0, b"v")]));
        let own = split(&encode(&mut plan.encoder("r", "old", 3), &[record(0, b"v")]));
        assert_eq!((&renamed[0][0][..], &own[0][0][..]), (&b"new"[..], &b"old"[..]));
        assert_eq!(renamed[0][1..], own[0][1..], "{preset}");
    }
}
