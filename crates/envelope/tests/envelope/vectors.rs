//! Runs the vectors of `vectors/`, whose format `docs/envelope.md` documents.

use serde_json::Value;
use zafka_envelope::{
    FramePlan, OwnedHeader, OwnedRecord, Preset, Timestamp, decode_batch, decode_json,
    decode_packed,
};

use crate::wire::{Message, encode, frames, split};

/// The cases of a file.
pub struct File {
    root: Value,
}

/// One case of a file.
pub struct Case<'a> {
    pub name: String,
    pub preset: Option<Preset>,
    plan: FramePlan,
    route: &'a str,
    topic: &'a str,
    partition: i32,
    records: Vec<OwnedRecord>,
    pub messages: Vec<Message>,
    headers_missing: Option<u64>,
}

impl File {
    pub fn read(name: &str) -> Self {
        let path = format!("{}/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self { root: serde_json::from_str(&text).unwrap() }
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    pub fn cases(&self) -> Vec<Case<'_>> {
        let cases: Vec<_> = self.root["cases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| Case::read(&self.root, c))
            .collect();
        assert!(!cases.is_empty());
        cases
    }
}

impl<'a> Case<'a> {
    pub fn records(&self) -> &[OwnedRecord] {
        &self.records
    }

    fn read(root: &'a Value, case: &'a Value) -> Self {
        let plan = case.get("frames").or(root.get("frames")).unwrap();
        let preset = plan.as_str().map(|name| name.parse().unwrap());
        let plan = match preset {
            Some(preset) => FramePlan::preset(preset),
            None => {
                let list: Vec<&str> =
                    plan.as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
                FramePlan::parse(&list).unwrap()
            }
        };
        let topic = case["topic"].as_str().unwrap();
        let partition = case["partition"].as_i64().unwrap() as i32;
        let records = case["records"].as_array().unwrap().iter();
        let messages = case["messages"].as_array().unwrap().iter();
        Case {
            name: case["name"].as_str().unwrap().to_owned(),
            preset,
            plan,
            route: root["route"].as_str().unwrap(),
            topic,
            partition,
            records: records.map(|r| record(topic, partition, r)).collect(),
            messages: messages.map(message).collect(),
            headers_missing: case.get("headers_missing").map(|n| n.as_u64().unwrap()),
        }
    }
}

pub fn message(value: &Value) -> Message {
    value.as_array().unwrap().iter().map(bytes).collect()
}

fn record(topic: &str, partition: i32, record: &Value) -> OwnedRecord {
    let number = |name: &str| record.get(name).map(|n| n.as_i64().unwrap());
    let log_append = record.get("timestamp_type").is_some_and(|name| {
        assert_eq!(name, "log_append");
        true
    });
    let header =
        |header: &Value| OwnedHeader { name: bytes(&header[0]), value: nullable(&header[1]) };
    OwnedRecord {
        topic: Some(topic.to_owned()),
        partition,
        offset: number("offset").unwrap(),
        timestamp: match number("timestamp") {
            None => Timestamp::None,
            Some(ms) if log_append => Timestamp::LogAppend(ms),
            Some(ms) => Timestamp::Create(ms),
        },
        prev: number("prev"),
        key: nullable(&record["key"]),
        value: nullable(&record["value"]),
        headers: record
            .get("headers")
            .map_or(Vec::new(), |h| h.as_array().unwrap().iter().map(header).collect()),
    }
}

pub fn nullable(value: &Value) -> Option<Vec<u8>> {
    (!value.is_null()).then(|| bytes(value))
}

/// A string, `{"hex"}`, `{"repeat", "times"}`, or an array of these, one after the other.
pub fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Array(parts) => parts.iter().flat_map(bytes).collect(),
        _ => match value.get("hex") {
            Some(hex) => {
                let digits: Vec<u32> =
                    hex.as_str().unwrap().chars().map(|c| c.to_digit(16).unwrap()).collect();
                digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
            }
            None => bytes(&value["repeat"]).repeat(value["times"].as_u64().unwrap() as usize),
        },
    }
}

/// Reads messages by a preset's decoder; nothing for a preset that restores no record.
pub fn decode(
    preset: Preset,
    message: &Message,
) -> Option<Result<Vec<OwnedRecord>, zafka_envelope::DecodeError>> {
    let frames = frames(message);
    Some(match preset {
        Preset::Json => decode_json(&frames).map(|record| vec![record]),
        Preset::Packed => decode_packed(&frames).map(|record| vec![record]),
        Preset::Batch => decode_batch(&frames),
        Preset::Value => return None,
    })
}

#[test]
fn records_become_the_messages_and_back() {
    for name in ["json", "packed", "batch", "value", "lists"] {
        let file = File::read(name);
        for case in file.cases() {
            let place = format!("{name}.json: {}", case.name);
            let headers: Vec<_> = case.records.iter().map(OwnedRecord::borrow_headers).collect();
            let records: Vec<_> =
                case.records.iter().zip(&headers).map(|(r, h)| r.as_record(h)).collect();
            let mut encoder = case.plan.encoder(case.route, case.topic, case.partition);
            let out = encode(&mut encoder, &records);
            let found = split(&out);
            assert!(
                found == case.messages,
                "{place}:\n{found:02x?}\nexpected\n{:02x?}",
                case.messages
            );
            if let Some(missing) = case.headers_missing {
                assert_eq!(out.headers_missing, missing, "{place}");
            }
            assert_eq!(out, encode(&mut encoder, &records), "{place}: the same again");
            let routing = case.plan.routing_frame(case.route, case.topic, case.partition);
            if let Some(routing) = routing {
                assert!(
                    case.messages.iter().all(|m| m[0] == routing) && out.same_routing,
                    "{place}"
                );
            }
            let Some(preset) = case.preset else { continue };
            let decoded: Option<Vec<_>> =
                case.messages.iter().map(|m| decode(preset, m).map(Result::unwrap)).collect();
            if let Some(decoded) = decoded {
                assert_eq!(decoded.concat(), case.records, "{place}");
            }
        }
    }
}

#[test]
fn malformed_messages_are_refused() {
    let file = File::read("invalid");
    for case in file.root["cases"].as_array().unwrap() {
        let preset = case["frames"].as_str().unwrap().parse().unwrap();
        let result = decode(preset, &message(&case["message"])).unwrap();
        assert!(result.is_err(), "{}: {result:?}", case["name"]);
    }
}
