//! Messages that become records: the vectors of `inbound.json`, and presets read back.

use std::borrow::Cow;

use serde_json::Value;
use zafka_envelope::{
    FramePlan, InboundError, InboundHeader, InboundPlan, InboundRecord, MAX_RECORDS, OwnedRecord,
    Preset, Timestamp,
};

use crate::vectors::{File, bytes, message, nullable};
use crate::wire::frames;

fn list(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|template| template.as_str().unwrap()).collect()
}

fn record(value: &Value) -> InboundRecord<'static> {
    let header = |header: &Value| InboundHeader {
        name: Cow::Owned(bytes(&header[0])),
        value: nullable(&header[1]).map(Cow::Owned),
    };
    let headers = value.get("headers").map(|headers| headers.as_array().unwrap().iter());
    InboundRecord {
        topic: value["topic"].as_str().map(|topic| Cow::Owned(topic.to_owned())),
        timestamp: value.get("timestamp").map(|ms| ms.as_i64().unwrap()),
        key: nullable(&value["key"]).map(Cow::Owned),
        value: nullable(&value["value"]).map(Cow::Owned),
        headers: headers.map_or(Vec::new(), |headers| headers.map(header).collect()),
    }
}

#[test]
fn messages_become_the_records() {
    let file = File::read("inbound");
    for case in file.root()["cases"].as_array().unwrap() {
        let name = &case["name"];
        let plan = InboundPlan::parse(&list(&case["frames"])).unwrap();
        let message = message(&case["message"]);
        let frames = frames(&message);
        let mut found = Vec::new();
        let result = plan.read(&frames, &mut found);
        match case.get("error") {
            Some(error) => {
                assert_eq!(result.unwrap_err().to_string(), error.as_str().unwrap(), "{name}");
                assert!(found.is_empty(), "{name}");
            }
            None => {
                result.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(found, [record(&case["record"])], "{name}");
            }
        }
        if let Some(id) = case.get("id") {
            assert_eq!(plan.id(&frames).unwrap(), bytes(id), "{name}");
        }
    }
}

#[test]
fn lists_with_mistakes_are_refused() {
    let file = File::read("inbound");
    for case in file.root()["mistakes"].as_array().unwrap() {
        let mistakes = InboundPlan::parse(&list(&case["frames"])).unwrap_err();
        let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(found, [case["error"].as_str().unwrap()], "{}", case["frames"]);
    }
    for outbound in ["{id}", "{_}"] {
        assert!(
            FramePlan::parse(&["{value}", outbound]).is_err(),
            "{outbound} is for messages alone"
        );
    }
}

/// Holds a record against what it was before it crossed.
fn assert_restored(place: &str, found: &InboundRecord<'_>, record: &OwnedRecord) {
    let timestamp = match record.timestamp {
        Timestamp::None => None,
        Timestamp::Create(ms) | Timestamp::LogAppend(ms) => Some(ms),
    };
    let header = |name: &[u8], value: Option<&[u8]>| (name.to_vec(), value.map(<[u8]>::to_vec));
    let found_headers: Vec<_> =
        (found.headers.iter()).map(|h| header(&h.name, h.value.as_deref())).collect();
    let headers: Vec<_> =
        record.headers.iter().map(|h| header(&h.name, h.value.as_deref())).collect();
    assert_eq!(found.topic.as_deref(), record.topic.as_deref(), "{place}");
    assert_eq!(found.timestamp, timestamp, "{place}");
    assert_eq!(found.key.as_deref(), record.key.as_deref(), "{place}");
    assert_eq!(found.value.as_deref(), record.value.as_deref(), "{place}");
    assert_eq!(found_headers, headers, "{place}");
}

#[test]
fn presets_restore_the_record() {
    for preset in [Preset::Json, Preset::Packed, Preset::Batch] {
        let file = File::read(preset.name());
        let plan = InboundPlan::preset(preset);
        for case in file.cases() {
            let place = format!("{preset}: {}", case.name);
            let mut left = case.records();
            for message in &case.messages {
                let frames = frames(message);
                let mut found = Vec::new();
                plan.read(&frames, &mut found).unwrap_or_else(|error| panic!("{place}: {error}"));
                for found in &found {
                    let (record, rest) = left.split_first().unwrap();
                    assert_restored(&place, found, record);
                    left = rest;
                }
            }
            assert!(left.is_empty(), "{place}");
        }
    }
}

#[test]
fn records_beyond_the_limit_are_not_read() {
    let plan = InboundPlan::preset(Preset::Batch);
    let mut packed = vec![48, 0, 0, 0, 1];
    packed.resize(52, 0);
    let read = |body: &[u8]| plan.read(&[b"t", body], &mut Vec::new());
    let most = packed.repeat(MAX_RECORDS);
    assert_eq!(read(&most), Ok(()));
    // Whatever it is that follows, or is in them.
    for body in [[&most[..], &[1]].concat(), vec![0; 4 * MAX_RECORDS + 4]] {
        assert_eq!(read(&body), Err(InboundError::Records));
    }
    // A length beyond the end is a record that is cut off.
    let cut = [&packed[..], &[0xff; 4], &most[..]].concat();
    assert!(matches!(read(&cut), Err(InboundError::Decode(_))));
}

#[test]
fn the_value_stands_alone_if_nothing_else_is_carried() {
    for (list, value) in [
        (&["{value}"][..], Some(0)),
        (&["{_}", "{value}"], Some(1)),
        (&["{value}", "{_}", "{_}"], Some(0)),
        (&["v/{value}"], None),
        (&["text", "{value}"], None),
        (&["t/{_}", "{value}"], None),
        (&["{key}", "{value}"], None),
        (&["{id}", "{value}"], None),
        (&["{_}", "{packed}"], None),
    ] {
        assert_eq!(InboundPlan::parse(list).unwrap().value_alone(), value, "{list:?}");
    }
    assert_eq!(InboundPlan::preset(Preset::Batch).value_alone(), None);
}
