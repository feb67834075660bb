//! Records on the other side, written by the Java client.

use zafka_testkit::{Checker, KafkaNode, Received, Record, Sequence, Session, unique};

use crate::common::{Fetcher, OneRoute, is_at};
use crate::{DEADLINE, decoded};

on_both_fetchers!(every_record_of_every_partition_arrives_in_order, "needs Java and Maven");
fn every_record_of_every_partition_arrives_in_order(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    let topic = unique("orders");
    kafka.admin().create_topic(&topic, 3, &[]);
    let sequence = Sequence { partitions: vec![0, 1, 2], ..Sequence::new(&topic, 30_000) };
    let produced = kafka.admin().produce_sequence(&sequence);
    let from = format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}"#);
    let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
    let subscriber = route.subscribe(&[&topic]);
    let messages = decoded(&subscriber.wait_messages(30_000, DEADLINE));
    let mut checker = Checker::new();
    checker.expect_sequence(&sequence, &produced);
    checker.assert(&[Session::new(messages)]);
    route.relay.terminate();
    assert!(route.relay.wait_exit(DEADLINE).success(), "{}", route.relay.log());
    let committed = kafka.admin().committed(&topic);
    assert_eq!(
        committed.values().sum::<i64>(),
        30_000,
        "all that was delivered is committed: {committed:?}"
    );
}

/// Everything in a topic of one partition, from its start and without a group.
fn read_all(fetcher: Fetcher, topic: &str, count: usize) -> Vec<Received> {
    let from = format!(r#"topics = ["{topic}"], start = "earliest", {fetcher}"#);
    let route = OneRoute::lossless(KafkaNode::shared().bootstrap(), &from);
    let subscriber = route.subscribe(&[topic]);
    let messages = decoded(&subscriber.wait_messages(count, DEADLINE));
    assert_eq!(messages.len(), count);
    messages
}

on_both_fetchers!(every_compression_in_one_topic, "needs Java and Maven");
fn every_compression_in_one_topic(fetcher: Fetcher) {
    const EACH: u64 = 2_000;
    let admin = KafkaNode::shared().admin();
    let topic = unique("compressed");
    admin.create_topic(&topic, 1, &[]);
    let mut checker = Checker::new();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd", "none", "zstd", "lz4", "snappy", "gzip"];
    for (turn, codec) in (0..).zip(codecs) {
        let compression = codec.to_owned();
        let sequence =
            Sequence { first: turn * EACH, compression, ..Sequence::new(&topic, EACH as usize) };
        checker.expect_sequence(&sequence, &admin.produce_sequence(&sequence));
    }
    checker.assert(&[Session::new(read_all(fetcher, &topic, codecs.len() * EACH as usize))]);
}

on_both_fetchers!(null_and_empty_are_told_apart, "needs Java and Maven");
fn null_and_empty_are_told_apart(fetcher: Fetcher) {
    let admin = KafkaNode::shared().admin();
    let topic = unique("nulls");
    admin.create_topic(&topic, 1, &[]);
    let choices = [None, Some(Vec::new()), Some(vec![0]), Some(vec![0xff, 0xfe, 0, 10])];
    let pairs = choices
        .iter()
        .flat_map(|key| choices.iter().map(move |value| (key.clone(), value.clone())));
    let records: Vec<_> =
        pairs.map(|(key, value)| Record { key, value, ..Record::default() }).collect();
    let mut checker = Checker::new();
    for codec in ["none", "lz4"] {
        for (record, at) in records.iter().zip(admin.produce_as(&topic, &records, codec, None)) {
            checker.expect_payload(&topic, at, record.key.as_deref(), record.value.as_deref());
        }
    }
    checker.assert(&[Session::new(read_all(fetcher, &topic, 2 * records.len()))]);
}

on_both_fetchers!(headers_keep_order_repeats_nulls_and_bytes, "needs Java and Maven");
fn headers_keep_order_repeats_nulls_and_bytes(fetcher: Fetcher) {
    let admin = KafkaNode::shared().admin();
    let topic = unique("headers");
    admin.create_topic(&topic, 1, &[]);
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let cases = [
        vec![],
        vec![header("a", Some(b"1"))],
        vec![
            header("b", Some(b"1")),
            header("a", Some(b"2")),
            header("b", Some(b"3")),
            header("b", None),
        ],
        vec![header("null", None), header("empty", Some(b""))],
        vec![header("not UTF-8", Some(&[0xff, 0xfe])), header("cut", Some(&[0xe2, 0x82]))],
        vec![
            header("größe \"\\\n\u{1}", Some("ß\"\\\u{0}\u{1f}\u{7f}".as_bytes())),
            header("", Some(b"unnamed")),
        ],
        (0..300).map(|i| header(&format!("h{i}"), Some(&vec![b'x'; i]))).collect(),
    ];
    let records: Vec<_> = cases
        .iter()
        .map(|case| Record { headers: case.clone(), ..Record::new("k", "v") })
        .collect();
    admin.produce(&topic, &records);
    for (case, received) in cases.iter().zip(read_all(fetcher, &topic, cases.len())) {
        let headers: Vec<_> =
            case.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect();
        assert_eq!(received.headers, headers);
    }
}

on_both_fetchers!(timestamps_are_the_producers_or_the_brokers, "needs Java and Maven");
fn timestamps_are_the_producers_or_the_brokers(fetcher: Fetcher) {
    const TIMES: [i64; 3] = [0, 1_000_000_000_123, 1_700_000_000_456];
    let admin = KafkaNode::shared().admin();
    let records = TIMES.map(|time| Record { timestamp: Some(time), ..Record::new("k", "v") });
    let [create, append] = ["CreateTime", "LogAppendTime"].map(|kind| {
        let topic = unique("times");
        admin.create_topic(&topic, 1, &[("message.timestamp.type", kind)]);
        // Compressed batches keep what the broker sets in another place.
        for codec in ["none", "gzip"] {
            admin.produce_as(&topic, &records, codec, None);
        }
        read_all(fetcher, &topic, 2 * TIMES.len())
    });
    for (message, time) in create.iter().zip(TIMES.iter().chain(&TIMES)) {
        assert_eq!((message.timestamp, message.log_append), (*time, false));
    }
    for message in &append {
        assert!(message.log_append && message.timestamp > TIMES[2], "{message:?}");
    }
}

on_both_fetchers!(a_record_of_10_mb_passes_a_smaller_ring, "needs Java and Maven");
fn a_record_of_10_mb_passes_a_smaller_ring(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    let topic = unique("large");
    kafka.admin().create_topic(&topic, 1, &[("max.message.bytes", "20000000")]);
    let mut checker = Checker::new();
    let mut first = 0;
    for (count, value_size) in [(100, 100), (2, 10_000_000), (100, 100), (1, 10_000_000)] {
        for compression in ["none", "zstd"] {
            let compression = compression.to_owned();
            let sequence =
                Sequence { first, value_size, compression, ..Sequence::new(&topic, count) };
            checker.expect_sequence(&sequence, &kafka.admin().produce_sequence(&sequence));
            first += count as u64;
        }
    }
    let from = format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}"#);
    for ring in ["1 MiB", "64 MiB"] {
        let to = format!(r#"slow_peer = "block", min_peers = 1, ring_bytes = "{ring}""#);
        let mut route = OneRoute::start(
            kafka.bootstrap(),
            &from.replace("group = \"", &format!("group = \"{ring} ")),
            &to,
        );
        let subscriber = route.subscribe(&[&topic]);
        let messages = subscriber.wait_messages(first as usize, DEADLINE);
        checker.assert(&[Session::new(decoded(&messages))]);
        let end = first as i64;
        route
            .relay
            .wait_status("all of it delivered", DEADLINE, |status| is_at(status, &topic, 0, end));
    }
}

on_both_fetchers!(holes_of_a_compacted_topic_are_no_gaps, "needs Java and Maven");
fn holes_of_a_compacted_topic_are_no_gaps(fetcher: Fetcher) {
    let kafka = KafkaNode::shared();
    let admin = kafka.admin();
    let topic = unique("compacted");
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "1"),
        ("min.cleanable.dirty.ratio", "0.001"),
    ];
    admin.create_topic(&topic, 1, &configs);
    // Each round is a segment: the time it covers is over when the next one comes.
    let mut last = 0;
    for round in 0..10 {
        let records = ["k", "only", "k"].map(|key| {
            let key = if key == "only" { format!("only {round}") } else { key.to_owned() };
            Record {
                timestamp: Some(1_000_000_000_000 + round * 1_000),
                ..Record::new(key, format!("{round}"))
            }
        });
        last = admin.produce(&topic, &records)[2].offset;
    }
    let from = format!(r#"topics = ["{topic}"], start = "earliest", {fetcher}"#);
    let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
    let messages = zafka_testkit::wait::wait_for("Kafka to compact the topic", DEADLINE, || {
        let subscriber = route.subscribe(&[&topic]);
        route.relay.wait_status("the end", DEADLINE, |status| is_at(status, &topic, 0, last + 1));
        let sent =
            |status: &serde_json::Value| crate::common::counter(status, "messages_sent") as usize;
        let count = sent(&route.relay.status().expect("it runs"));
        let messages = decoded(&subscriber.wait_messages(count, DEADLINE));
        let compacted = messages.len() < 20;
        if !compacted {
            // It would take records of the next one.
            drop(subscriber);
            route.start_again();
        }
        compacted.then_some(messages)
    });
    assert_eq!(messages.last().map(|message| message.offset), Some(last));
    assert_eq!(messages[0].prev, None);
    let holes = messages.windows(2).filter(|pair| pair[1].offset > pair[0].offset + 1).count();
    assert!(holes > 0, "Kafka left no hole: {messages:?}");
    for pair in messages.windows(2) {
        assert_eq!(pair[1].prev, Some(pair[0].offset), "{pair:?}");
    }
}
