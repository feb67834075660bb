//! The envelopes other than `json`, read by the layout in docs/envelope.md.

use zafka_testkit::{KafkaNode, LibzmqSub, Record, unique, wait_until};

use crate::DEADLINE;
use crate::common::OneRoute;

/// A record as `packed` and `batch` have it.
#[derive(Debug, Default, Clone, PartialEq)]
struct Packed {
    partition: i32,
    offset: i64,
    prev: i64,
    timestamp: i64,
    log_append: bool,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// Takes bytes from the front, with numbers in little-endian.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn bytes(&mut self, size: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(size);
        self.0 = rest;
        taken.to_vec()
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn sized(&mut self) -> Vec<u8> {
        let size = self.i32() as usize;
        self.bytes(size)
    }
}

/// The records of a frame, one after the other.
fn packed(frame: &[u8]) -> Vec<Packed> {
    let mut rest = Cursor(frame);
    let mut records = Vec::new();
    while !rest.0.is_empty() {
        let body = rest.sized();
        let mut body = Cursor(&body);
        assert_eq!(body.bytes(1), [1], "version");
        let flags = body.bytes(1)[0];
        assert_eq!(body.bytes(2), [0, 0]);
        let mut record = Packed { partition: body.i32(), offset: body.i64(), ..Packed::default() };
        record.timestamp = body.i64();
        record.prev = body.i64();
        record.log_append = flags & 4 != 0;
        assert_eq!(body.i32(), -1, "schema id");
        for _ in 0..body.i32() {
            let name = body.sized();
            let size = body.i32();
            let value = (size >= 0).then(|| body.bytes(size as usize));
            record.headers.push((name, value));
        }
        let (key, value) = (body.sized(), body.sized());
        record.key = (flags & 1 == 0).then_some(key);
        record.value = (flags & 2 == 0).then_some(value);
        assert!(body.0.is_empty(), "{} bytes are left", body.0.len());
        records.push(record);
    }
    records
}

/// Writes records to a new topic of one partition: the topic, and what a reader of `packed` is to
/// get.
fn written() -> (String, Vec<Packed>) {
    let admin = KafkaNode::shared().admin();
    let topic = unique("presets");
    admin.create_topic(&topic, 1, &[]);
    let fields = |at: i64| -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        match at % 4 {
            0 => (None, Some(vec![0xff; at as usize])),
            1 => (Some(Vec::new()), None),
            2 => (Some(at.to_be_bytes().to_vec()), Some(Vec::new())),
            _ => (Some(vec![b'k'; 300]), Some(vec![b'v'; 3_000])),
        }
    };
    let headers = |at: i64| match at % 3 {
        0 => vec![],
        1 => vec![("tenant".to_owned(), Some(b"acme".to_vec()))],
        _ => vec![("tenant".to_owned(), Some(b"other".to_vec())), ("null".to_owned(), None)],
    };
    let time = |at: i64| 1_700_000_000_000 + at;
    let records: Vec<_> = (0..600)
        .map(|at| {
            let (key, value) = fields(at);
            Record { key, value, headers: headers(at), timestamp: Some(time(at)), partition: None }
        })
        .collect();
    // In two parts, so that there is more than one record batch, the second one compressed.
    for (part, codec) in records.chunks(300).zip(["none", "zstd"]) {
        admin.produce_as(&topic, part, codec, None);
    }
    let expected = (0..600)
        .zip(records)
        .map(|(offset, record)| Packed {
            partition: 0,
            offset,
            prev: offset - 1,
            timestamp: time(offset),
            log_append: false,
            headers: record
                .headers
                .into_iter()
                .map(|(name, value)| (name.into_bytes(), value))
                .collect(),
            key: record.key,
            value: record.value,
        })
        .collect();
    (topic, expected)
}

fn read(topic: &str, frames: &str, prefix: &str) -> (OneRoute, LibzmqSub) {
    let from = format!(r#"topics = ["{topic}"], start = "earliest""#);
    let to = format!(r#"slow_peer = "block", min_peers = 1, frames = {frames}"#);
    let route = OneRoute::start(KafkaNode::shared().bootstrap(), &from, &to);
    let subscriber = route.subscribe(&[prefix]);
    (route, subscriber)
}

#[test]
#[ignore = "needs Java and Maven"]
fn packed_restores_every_record() {
    let (topic, expected) = written();
    let (_route, subscriber) = read(&topic, "\"packed\"", &topic);
    let messages = subscriber.wait_messages(expected.len(), DEADLINE);
    for (message, expected) in messages.iter().zip(&expected) {
        let [routing, frame] = message.as_slice() else { panic!("{} frames", message.len()) };
        assert_eq!(routing, topic.as_bytes());
        assert_eq!(packed(frame), std::slice::from_ref(expected));
    }
    assert_eq!(messages.len(), expected.len());
}

#[test]
#[ignore = "needs Java and Maven"]
fn batch_restores_every_record_in_few_messages() {
    let (topic, expected) = written();
    let (_route, subscriber) = read(&topic, "\"batch\"", &topic);
    let records = || -> Vec<Packed> {
        let messages = subscriber.messages();
        messages.iter().flat_map(|message| packed(&message[1])).collect()
    };
    wait_until("every record", DEADLINE, || records().len() >= expected.len());
    assert_eq!(records(), expected);
    let messages = subscriber.messages();
    assert!(messages.len() < expected.len() / 10, "{} messages", messages.len());
    for message in &messages {
        assert_eq!(message.len(), 2);
        assert_eq!(message[0], topic.as_bytes());
        assert!(message[1].len() <= 256 * 1024, "{} bytes in one frame", message[1].len());
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn value_is_the_topic_and_the_bytes_alone() {
    let (topic, expected) = written();
    let (_route, subscriber) = read(&topic, "\"value\"", &topic);
    let messages = subscriber.wait_messages(expected.len(), DEADLINE);
    let frames = |record: &Packed| {
        vec![topic.clone().into_bytes(), record.value.clone().unwrap_or_default()]
    };
    assert_eq!(messages, expected.iter().map(frames).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_free_list_lets_one_tenant_subscribe_to_its_own() {
    let (topic, expected) = written();
    let frames = r#"["{header.tenant}/{topic}", "{offset:u64be}", "{key}", "{value}"]"#;
    let (mut route, subscriber) = read(&topic, frames, "acme/");
    let has_tenant = |record: &&Packed| {
        record.headers.first().is_some_and(|(_, v)| v.as_deref() == Some(b"acme"))
    };
    let expected: Vec<_> = expected
        .iter()
        .filter(has_tenant)
        .map(|record| {
            let (key, value) = (record.key.clone(), record.value.clone());
            let routing = format!("acme/{topic}").into_bytes();
            vec![
                routing,
                record.offset.to_be_bytes().to_vec(),
                key.unwrap_or_default(),
                value.unwrap_or_default(),
            ]
        })
        .collect();
    let messages = subscriber.wait_messages(expected.len(), DEADLINE);
    let status =
        route.relay.wait_status("the end", DEADLINE, |s| crate::common::is_at(s, &topic, 0, 600));
    assert_eq!(subscriber.count(), expected.len());
    assert_eq!(messages, expected);
    assert_eq!(crate::common::counter(&status, "headers_missing"), 200, "records without a tenant");
    assert_eq!(
        crate::common::counter(&status, "records_unheard"),
        400,
        "records for which nobody asked"
    );
}
