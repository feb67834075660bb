//! Records come through byte for byte.

use zafka_envelope::Timestamp;
use zafka_kafka::config::{FetcherKind, Start};
use zafka_kafka::embedded::EmbeddedRecord;

use crate::route::{PATIENCE, Route, broker, cluster, config};

on_both_fetchers!(null_and_empty_and_headers);
async fn null_and_empty_and_headers(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("a", 1)]);
    let base = EmbeddedRecord {
        topic: "a",
        partition: Some(0),
        timestamp: Some(1_700_000_000_123),
        ..EmbeddedRecord::default()
    };
    let headers: [(&str, Option<&[u8]>); 4] =
        [("h", Some(b"1")), ("h", None), ("", Some(b"")), ("bin", Some(b"\xff\x00"))];
    let written = [
        base,
        EmbeddedRecord { key: Some(b""), value: Some(b""), ..base },
        EmbeddedRecord { key: Some(b"\x00\xff"), value: None, headers: &headers, ..base },
        EmbeddedRecord { key: None, value: Some(b"v"), ..base },
    ];
    for record in &written {
        producer.send(record).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let mut route = Route::start(
        &cluster(&broker.bootstrap()),
        config(fetching, &["a"], None, Start::Earliest),
    );
    route.until("four records", |route| route.records.len() == 4).await;
    for ((_, _, got), sent) in route.records.iter().zip(&written) {
        assert_eq!(got.key.as_deref(), sent.key);
        assert_eq!(got.value.as_deref(), sent.value);
        assert_eq!(got.timestamp, Timestamp::Create(1_700_000_000_123));
        let got: Vec<_> =
            got.headers.iter().map(|header| (&*header.name, header.value.as_deref())).collect();
        let sent: Vec<_> =
            sent.headers.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
        assert_eq!(got, sent);
    }
    let offsets: Vec<_> = route.records.iter().map(|(_, _, record)| record.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    route.close().await;
}

// -1 is Kafka's word for none; others are times before 1970.
on_both_fetchers!(timestamps_below_zero);
async fn timestamps_below_zero(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("a", 1)]);
    let times = [-86_400_000, -2, -1, 1];
    for time in times {
        let record = EmbeddedRecord {
            topic: "a",
            partition: Some(0),
            timestamp: Some(time),
            ..EmbeddedRecord::default()
        };
        producer.send(&record).unwrap();
        // A batch of its own.
        producer.flush(PATIENCE).unwrap();
    }
    let mut route = Route::start(
        &cluster(&broker.bootstrap()),
        config(fetching, &["a"], None, Start::Earliest),
    );
    route.until("all of them", |route| route.records.len() == times.len()).await;
    let got: Vec<_> = route.records.iter().map(|(_, _, record)| record.timestamp).collect();
    let [day, two, _, one] = times.map(Timestamp::Create);
    assert_eq!(got, [day, two, Timestamp::None, one]);
    route.close().await;
}
