//! Abilities that only the fast fetcher has.

use std::fs;
use std::time::Duration;

use zafka_kafka::config::{FetcherKind, OnCorrupt, SourceConfig, Start};
use zafka_testkit::{KafkaNode, Record};

use crate::group::REBALANCES;
use crate::route::{Route, broker, cluster, config, config_in, numbers, write};

#[tokio::test(flavor = "multi_thread")]
async fn where_a_broker_is_too_old_librdkafka_takes_over() {
    let group = Some(("g", REBALANCES));
    for (name, group, is_ancient) in [
        ("in a group", group, false),
        ("without one", None, false),
        ("one that tells no leaders", None, true),
    ] {
        let (broker, producer) = broker(&[("orders", 3)]);
        broker.limit_fetch(11).unwrap();
        if is_ancient {
            broker.limit_metadata(8).unwrap();
        }
        for partition in 0..3 {
            write(&producer, "orders", partition, 0..10);
        }
        let cluster = cluster(&broker.bootstrap());
        let mut route =
            Route::start(&cluster, config(FetcherKind::Fast, &["orders"], group, Start::Earliest));
        route.until("30 records", |route| route.records.len() >= 30).await;
        assert_eq!(route.source.status().fetcher, Some("librdkafka"), "{name}");
        route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
        write(&producer, "orders", 0, 10..20);
        route.until("40 records", |route| route.records.len() >= 40).await;
        assert_eq!(route.records.len(), 40, "{name}: none twice");
        route.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_too_old_is_not_left() {
    let (broker, producer) = broker(&[("orders", 1)]);
    broker.limit_fetch(12).unwrap();
    write(&producer, "orders", 0, 0..10);
    let cluster = cluster(&broker.bootstrap());
    let mut route =
        Route::start(&cluster, config(FetcherKind::Fast, &["orders"], None, Start::Earliest));
    route.until("ten records", |route| route.records.len() == 10).await;
    assert_eq!((route.values(), route.source.status().fetcher), (numbers(0..10), Some("fast")));
    route.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn a_batch_that_rotted_on_disk_is_told_and_skipped_only_if_wanted() {
    let mut kafka = KafkaNode::start();
    let admin = kafka.admin().clone();
    admin.create_topic("rot", 2, &[]);
    let record =
        |partition, value: &str| Record { partition: Some(partition), ..Record::new("k", value) };
    for value in ["first", "second", "rotten", "last"] {
        admin.produce("rot", &[record(0, value), record(1, "sound")]);
    }
    kafka.terminate();
    let log = kafka.data().join("rot-0/00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes.windows(6).position(|window| window == b"rotten").unwrap();
    bytes[at] ^= 1;
    fs::write(&log, bytes).unwrap();
    kafka.restart();

    let config = SourceConfig {
        stall_timeout: Duration::from_secs(1),
        ..config_in(FetcherKind::Fast, &["rot"], "g", Start::Earliest)
    };
    let mut route = Route::start(&cluster(kafka.bootstrap()), config);
    let is_told = |text: Option<String>| {
        text.is_some_and(|text| text.starts_with("rot/0: ") && text.contains("offset 2"))
    };
    route.until("readiness to tell", |route| is_told(route.source.status().not_ready)).await;
    route.until("the stall", |route| route.source.status().partitions_stalled == 1).await;
    assert!(is_told(route.source.status().last_error));
    admin.produce("rot", &[record(1, "sound")]);
    route.until("the other partition", |route| route.records.len() == 7).await;
    let values = route.values();
    assert_eq!(values.iter().filter(|value| *value == "sound").count(), 5);
    assert!(values.iter().all(|value| value != "last"), "{values:?}");
    route.close().await;

    // By librdkafka, which goes on behind it by itself.
    let config = config_in(FetcherKind::Librdkafka, &["rot"], "by-librdkafka", Start::Earliest);
    let mut route = Route::start(&cluster(kafka.bootstrap()), config);
    route
        .until("readiness to tell", |route| {
            is_told(route.source.status().not_ready) && route.records.len() == 7
        })
        .await;
    assert!(route.values().iter().all(|value| value != "last"), "{:?}", route.values());
    route.close().await;

    let config = SourceConfig {
        on_corrupt: OnCorrupt::Skip,
        ..config_in(FetcherKind::Fast, &["rot"], "skips", Start::Earliest)
    };
    let mut route = Route::start(&cluster(kafka.bootstrap()), config);
    route.until("all but the rotten one", |route| route.records.len() == 8).await;
    let values = route.values();
    let first: Vec<_> = values.iter().filter(|value| *value != "sound").collect();
    assert_eq!(first, ["first", "second", "last"]);
    let status = route.source.status();
    assert_eq!((status.records_skipped, status.offset_resets, status.not_ready), (1, 1, None));
    route.close().await;
}
