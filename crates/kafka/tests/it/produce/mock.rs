//! Against librdkafka's mock cluster.

use zafka_kafka::config::{FetcherKind, Start};
use zafka_kafka::produce::{Compression, OutboundRecord, ProducerConfig, ProducerKind};

use super::{Writer, settings};
use crate::route::{Route, broker, cluster, config};

on_both_producers!(every_record_is_told_its_place);
async fn every_record_is_told_its_place(producing: ProducerKind) {
    let (broker, _) = broker(&[("orders", 3), ("other", 1)]);
    let mut writer = Writer::start(&broker.bootstrap(), &settings(producing));
    for number in 0..3000 {
        let key = format!("k{}", number % 7);
        writer.send(if number % 10 == 0 { "other" } else { "orders" }, Some(&key));
        if number % 250 == 0 {
            writer.step().await;
        }
    }
    for _ in 0..100 {
        writer.send("orders", None);
    }
    writer.until_all_told().await;
    assert!(writer.told.values().all(Result::is_ok));
    writer.until("readiness", |writer| writer.producer.health().not_ready().is_none()).await;
    for topic in ["orders", "other"] {
        writer.assert_told_truly(topic).await;
    }
    writer.producer.close().await;
}

on_both_producers!(records_come_through_byte_for_byte);
async fn records_come_through_byte_for_byte(producing: ProducerKind) {
    use Compression::{Gzip, Lz4, Snappy, Zstd};
    for compression in [Compression::None, Gzip, Snappy, Lz4, Zstd] {
        let (broker, _) = broker(&[("a", 1)]);
        let config = ProducerConfig { compression, ..settings(producing) };
        let mut writer = Writer::start(&broker.bootstrap(), &config);
        let headers: [(&str, Option<&[u8]>); 4] =
            [("h", Some(b"1")), ("h", None), ("", Some(b"")), ("bin", Some(b"\xff\x00"))];
        let base = OutboundRecord {
            topic: "a",
            partition: Some(0),
            timestamp: 1_700_000_000_123,
            key: None,
            value: None,
            headers: &[],
        };
        let long = [b'x'; 5000];
        let records = [
            base,
            OutboundRecord { key: Some(b""), value: Some(b""), ..base },
            OutboundRecord { key: Some(b"\x00\xff"), headers: &headers, ..base },
            OutboundRecord { value: Some(&long), ..base },
        ];
        for (ticket, record) in records.iter().enumerate() {
            writer.producer.send(ticket, record).unwrap();
        }
        writer.until("all", |writer| writer.told.len() == records.len()).await;
        let places: Vec<_> = (0..records.len()).map(|ticket| writer.place(ticket)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (0, 3)], "{compression:?}");
        let mut route = Route::start(&cluster(&broker.bootstrap()), config_of("a"));
        route.until("four records", |route| route.records.len() == records.len()).await;
        for ((_, _, got), sent) in route.records.iter().zip(&records) {
            assert_eq!(got.key.as_deref(), sent.key, "{compression:?}");
            assert_eq!(got.value.as_deref(), sent.value, "{compression:?}");
            let got: Vec<_> =
                got.headers.iter().map(|one| (&*one.name, one.value.as_deref())).collect();
            let sent: Vec<_> =
                sent.headers.iter().map(|(name, value)| (name.as_bytes(), *value)).collect();
            assert_eq!(got, sent, "{compression:?}");
        }
        route.close().await;
        writer.producer.close().await;
    }
}

fn config_of(topic: &str) -> zafka_kafka::config::SourceConfig {
    config(FetcherKind::Fast, &[topic], None, Start::Earliest)
}

on_both_producers!(a_broker_that_is_away_is_waited_for);
async fn a_broker_that_is_away_is_waited_for(producing: ProducerKind) {
    let (broker, _) = broker(&[("orders", 2)]);
    broker.set_reachable(false).unwrap();
    let mut writer = Writer::start(&broker.bootstrap(), &settings(producing));
    for _ in 0..100 {
        writer.send("orders", Some("k0"));
    }
    writer
        .until("word of it", |writer| {
            let reason = writer.producer.health().not_ready();
            reason.is_some_and(|reason| reason.contains("broker"))
        })
        .await;
    assert!(writer.told.is_empty());
    broker.set_reachable(true).unwrap();
    writer.until_all_told().await;
    writer.until("readiness", |writer| writer.producer.health().not_ready().is_none()).await;
    broker.set_reachable(false).unwrap();
    for _ in 0..100 {
        writer.send("orders", Some("k0"));
        writer.step().await;
    }
    broker.set_reachable(true).unwrap();
    writer.until_all_told().await;
    writer.assert_told_truly("orders").await;
    writer.producer.close().await;
}

on_both_producers!(a_partition_without_a_leader_keeps_no_other_waiting);
async fn a_partition_without_a_leader_keeps_no_other_waiting(producing: ProducerKind) {
    let (broker, _) = broker(&[("orders", 3)]);
    broker.set_leader("orders", 0, false).unwrap();
    let mut writer = Writer::start(&broker.bootstrap(), &settings(producing));
    let record = |partition| OutboundRecord {
        topic: "orders",
        partition: Some(partition),
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(b"v"),
        headers: &[],
    };
    for ticket in 0..300 {
        let partition = i32::try_from(ticket % 3).unwrap();
        writer.producer.send(ticket, &record(partition)).unwrap();
    }
    writer.until("the others", |writer| writer.told.len() == 200).await;
    assert!(writer.told.keys().all(|ticket| ticket % 3 > 0));
    broker.set_leader("orders", 0, true).unwrap();
    writer.until("all", |writer| writer.told.len() == 300).await;
    for ticket in 0..300 {
        let place = (i32::try_from(ticket % 3).unwrap(), i64::try_from(ticket / 3).unwrap());
        assert_eq!(writer.place(ticket), place);
    }
    writer.producer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_broker_is_too_old_librdkafka_takes_over() {
    for ancient in [false, true] {
        let (broker, _) = broker(&[("orders", 2)]);
        broker.limit_produce(8).unwrap();
        if ancient {
            broker.limit_metadata(8).unwrap();
        }
        let mut writer = Writer::start(&broker.bootstrap(), &settings(ProducerKind::Fast));
        for number in 0..200 {
            let key = format!("k{}", number % 5);
            writer.send("orders", Some(&key).filter(|_| number % 3 > 0).map(String::as_str));
        }
        writer.until_all_told().await;
        assert_eq!(writer.producer.health().producer(), "librdkafka");
        for _ in 0..10 {
            writer.send("orders", Some("k1"));
        }
        writer.until_all_told().await;
        assert!(writer.told.values().all(Result::is_ok));
        writer.assert_told_truly("orders").await;
        writer.producer.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_too_old_is_not_left() {
    let (broker, _) = broker(&[("orders", 1)]);
    broker.limit_produce(9).unwrap();
    let mut writer = Writer::start(&broker.bootstrap(), &settings(ProducerKind::Fast));
    writer.send("orders", None);
    writer.until_all_told().await;
    assert_eq!((writer.place(0), writer.producer.health().producer()), ((0, 0), "fast"));
    writer.producer.close().await;
}
