//! Groups of a real Kafka.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use zafka_kafka::config::{FetcherKind, GroupProtocol, SourceConfig, Start};
use zafka_testkit::kafka::KafkaOptions;
use zafka_testkit::{KafkaNode, Sequence, unique};

use crate::route::{PATIENCE, Route, cluster, config, config_in};

fn sequence(topic: &str, first: u64, count: usize) -> Sequence {
    Sequence { partitions: vec![0, 1, 2, 3], first, ..Sequence::new(topic, count) }
}

/// Steps both until each holds two of four partitions.
async fn share(one: &mut Route, two: &mut Route) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while one.held.len() != 2 || two.held.len() != 2 {
        assert!(Instant::now() < deadline, "{:?} {:?}", one.events, two.events);
        one.step(Duration::from_millis(10)).await;
        two.step(Duration::from_millis(10)).await;
    }
}

fn offsets(routes: &[&Route]) -> BTreeSet<(i32, i64)> {
    routes
        .iter()
        .flat_map(|route| &route.records)
        .map(|(_, partition, record)| (*partition, record.offset))
        .collect()
}

on_both_fetchers!(
    a_group_shares_and_moves_partitions_without_loss_or_repeat,
    "needs Java and Maven"
);
async fn a_group_shares_and_moves_partitions_without_loss_or_repeat(fetching: FetcherKind) {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let (kafka, topic) = (KafkaNode::shared(), unique("shared"));
        kafka.admin().create_topic(&topic, 4, &[]);
        let cluster = cluster(kafka.bootstrap());
        let member = || config(fetching, &[&topic], Some((&topic, protocol)), Start::Earliest);
        kafka.admin().produce_sequence(&sequence(&topic, 0, 4000));
        let mut one = Route::start(&cluster, member());
        one.until("4000 records", |route| route.records.len() == 4000).await;
        let mut two = Route::start(&cluster, member());
        share(&mut one, &mut two).await;
        kafka.admin().produce_sequence(&sequence(&topic, 4000, 4000));
        one.until("its half", |route| route.records.len() == 6000).await;
        two.until("its half", |route| route.records.len() == 2000).await;
        one.receivers.records.close();
        let records = std::mem::take(&mut one.records);
        one.close().await;
        two.until("all partitions", |route| route.held.len() == 4).await;
        kafka.admin().produce_sequence(&sequence(&topic, 8000, 400));
        two.until("the rest", |route| route.records.len() == 2400).await;
        two.records.extend(records);
        assert_eq!(offsets(&[&two]).len(), 8400, "{protocol:?}: none missing, none twice");
        let positions = two.positions.values().map(|(_, position)| position).sum::<i64>();
        two.close().await;
        assert_eq!(kafka.admin().committed(&topic).values().sum::<i64>(), positions);
    }
}

on_both_fetchers!(
    the_protocol_is_the_newer_one_unless_the_group_has_members_of_the_other,
    "needs Java and Maven"
);
async fn the_protocol_is_the_newer_one_unless_the_group_has_members_of_the_other(
    fetching: FetcherKind,
) {
    let (kafka, topic) = (KafkaNode::shared(), unique("protocol"));
    kafka.admin().create_topic(&topic, 4, &[]);
    let cluster = cluster(kafka.bootstrap());
    let automatic = |group: &str| config_in(fetching, &[&topic], group, Start::Earliest);
    for (existing, expected) in [
        (None, "Consumer"),
        (Some(GroupProtocol::Classic), "Classic"),
        (Some(GroupProtocol::Consumer), "Consumer"),
    ] {
        let group = unique("group");
        let first: SourceConfig = match existing {
            Some(protocol) => {
                config(fetching, &[&topic], Some((&group, protocol)), Start::Earliest)
            }
            None => automatic(&group),
        };
        let mut one = Route::start(&cluster, first);
        one.until("all partitions", |route| route.held.len() == 4).await;
        let mut two = Route::start(&cluster, automatic(&group));
        share(&mut one, &mut two).await;
        assert_eq!(
            kafka.admin().groups().get(&group).map(String::as_str),
            Some(expected),
            "{existing:?}"
        );
        assert_eq!(kafka.admin().group(&group).unwrap().members.len(), 2);
        one.close().await;
        two.close().await;
    }
}

on_both_fetchers!(a_member_more_than_partitions_is_ready_and_takes_over, "needs Java and Maven");
async fn a_member_more_than_partitions_is_ready_and_takes_over(fetching: FetcherKind) {
    let (kafka, cluster) = (KafkaNode::shared(), cluster(KafkaNode::shared().bootstrap()));
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let topic = unique("spare");
        kafka.admin().create_topic(&topic, 1, &[]);
        let member = || config(fetching, &[&topic], Some((&topic, protocol)), Start::Earliest);
        let mut one = Route::start(&cluster, member());
        one.until("the partition", |route| route.held.len() == 1).await;
        let mut two = Route::start(&cluster, member());
        let deadline = Instant::now() + Duration::from_secs(40);
        while [&one, &two].iter().any(|route| route.source.status().not_ready.is_some()) {
            assert!(Instant::now() < deadline, "{protocol:?}: {:?} {:?}", one.events, two.events);
            one.step(Duration::from_millis(10)).await;
            two.step(Duration::from_millis(10)).await;
        }
        assert_eq!(one.held.len() + two.held.len(), 1, "{protocol:?}");
        let (holds, mut spare) = if one.held.is_empty() { (two, one) } else { (one, two) };
        holds.close().await;
        spare.until("the partition", |route| route.held.len() == 1).await;
        spare.until("readiness", |route| route.source.status().not_ready.is_none()).await;
        spare.close().await;
    }
}

on_both_fetchers!(an_aborted_transaction_moves_the_position, "needs Java and Maven");
async fn an_aborted_transaction_moves_the_position(fetching: FetcherKind) {
    let (kafka, topic) = (KafkaNode::shared(), unique("aborted"));
    let admin = kafka.admin();
    admin.create_topic(&topic, 1, &[]);
    let mut route = Route::start(
        &cluster(kafka.bootstrap()),
        config_in(fetching, &[&topic], &topic, Start::Latest),
    );
    route.until("a partition", |route| route.held.len() == 1).await;
    admin.begin(&topic);
    admin.produce_as(&topic, &[zafka_testkit::Record::new("k", "aborted")], "none", Some(&topic));
    admin.abort(&topic);
    // Record and marker.
    route
        .until("the position", |route| {
            route.positions().first().is_some_and(|(_, next)| *next == 2)
        })
        .await;
    assert_eq!(route.records.len(), 0);
    route.until("the end", |route| route.end_offset(&topic, 0) == Some(2)).await;
    route.close().await;
    assert_eq!(admin.committed(&topic).values().copied().collect::<Vec<_>>(), [2]);
}

on_both_fetchers!(
    a_cluster_without_the_newer_protocol_is_joined_by_the_classic_one,
    "needs Java and Maven"
);
async fn a_cluster_without_the_newer_protocol_is_joined_by_the_classic_one(fetching: FetcherKind) {
    let classic =
        KafkaOptions::default().property("group.coordinator.rebalance.protocols", "classic");
    let kafka = KafkaNode::start_with(classic);
    kafka.admin().create_topic("orders", 4, &[]);
    let mut route = Route::start(
        &cluster(kafka.bootstrap()),
        config_in(fetching, &["orders"], "g", Start::Earliest),
    );
    route.until("all partitions", |route| route.held.len() == 4).await;
    assert_eq!(kafka.admin().groups().get("g").map(String::as_str), Some("Classic"));
    route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
    route.close().await;
}

/// Tests one fetcher alone: the membership asks.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn members_with_another_assignor_are_told() {
    let (kafka, topic) = (KafkaNode::shared(), unique("assignor"));
    kafka.admin().create_topic(&topic, 1, &[]);
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", &topic)
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    other.subscribe(&[&topic]).unwrap();
    let poll = |consumer: &BaseConsumer| drop(consumer.poll(Duration::from_millis(50)));
    let deadline = Instant::now() + PATIENCE;
    while other.assignment().unwrap().count() == 0 {
        assert!(Instant::now() < deadline);
        poll(&other);
    }
    let source = config_in(FetcherKind::Fast, &[&topic], &topic, Start::Earliest);
    let cluster = cluster(kafka.bootstrap());
    let found = tokio::task::spawn_blocking({
        let (cluster, source) = (cluster.clone(), source.clone());
        move || zafka_kafka::probe(&cluster, &[&source])
    });
    let error = found.await.unwrap().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(&topic) && error.contains("the assignor \"range\""), "{error}");
    let mut route = Route::start(&cluster, source);
    let told = |route: &Route| route.source.status().not_ready.unwrap_or_default();
    route
        .until("the reason", |route| {
            poll(&other);
            told(route).contains("the assignor \"range\"")
        })
        .await;
    // Once they are gone, it goes on by itself.
    drop(other);
    route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
    route.close().await;
}
