//! Clusters of which a part is not there.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use zafka_kafka::config::{ClusterConfig, FetcherKind, GroupProtocol, SourceConfig, Start};
use zafka_testkit::{KafkaCluster, Record, unique};

use crate::route::{Route, config, config_in};

/// Three nodes that tests break in turn; each finds all of them running.
pub async fn nodes() -> MutexGuard<'static, KafkaCluster> {
    static NODES: LazyLock<Mutex<KafkaCluster>> =
        LazyLock::new(|| Mutex::new(KafkaCluster::start(3)));
    let mut nodes = NODES.lock().await;
    nodes.revive();
    nodes
}

pub fn cluster(nodes: &KafkaCluster) -> ClusterConfig {
    let bootstrap_servers = nodes.bootstrap().split(',').map(str::to_owned).collect();
    ClusterConfig { bootstrap_servers, ..crate::route::cluster("") }
}

/// A topic with a partition on each node, and no other replica.
fn topic(nodes: &KafkaCluster) -> String {
    let topic = unique("offline");
    nodes.admin().create_topic_on(
        &topic,
        &[vec![1], vec![2], vec![3]],
        &[("min.insync.replicas", "1")],
    );
    topic
}

fn write(nodes: &KafkaCluster, topic: &str, partition: i32) {
    nodes.admin().produce(topic, &[Record { partition: Some(partition), ..Record::new("k", "v") }]);
}

on_both_fetchers!(a_partition_that_is_offline_keeps_no_other_waiting, "needs Java and Maven");
async fn a_partition_that_is_offline_keeps_no_other_waiting(fetching: FetcherKind) {
    // As soon as its broker is gone, and once the cluster has noticed.
    for noticed in [false, true] {
        let mut nodes = nodes().await;
        let topic = topic(&nodes);
        (0..3).for_each(|partition| write(&nodes, &topic, partition));
        nodes.kill9(3);
        while noticed && nodes.leader_of(&topic, 2).is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let short = |config| SourceConfig { topic_refresh: Duration::from_secs(30), ..config };
        let cluster = cluster(&nodes);
        let group = config_in(fetching, &[&topic], &topic, Start::Earliest);
        let none = config(fetching, &[&topic], None, Start::Earliest);
        let mut routes = [group, none].map(|config| Route::start(&cluster, short(config)));
        let open = format!("{topic}/2");
        for route in &mut routes {
            route.until("two records", |route| route.records.len() == 2).await;
            route
                .until("the one that waits", |route| {
                    route.source.status().not_ready.is_some_and(|reason| reason.contains(&open))
                })
                .await;
        }
        nodes.restart(3);
        for route in &mut routes {
            route.until("the third", |route| route.records.len() == 3).await;
            route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
        }
        for route in routes {
            route.close().await;
        }
    }
}

/// Tests one fetcher alone: the membership asks.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn a_group_has_its_protocol_also_while_a_broker_stands_still() {
    let mut nodes = nodes().await;
    let topic = topic(&nodes);
    let cluster = cluster(&nodes);
    let (fetching, start) = (FetcherKind::Fast, Start::Earliest);
    let classic = config(fetching, &[&topic], Some((&topic, GroupProtocol::Classic)), start);
    let mut one = Route::start(&cluster, classic);
    one.until("its partitions", |route| route.held.len() == 3).await;
    let other = (1..=3).find(|id| *id != nodes.coordinator_of(&topic)).unwrap();
    nodes.stop_process(other);
    let mut two = Route::start(&cluster, config_in(fetching, &[&topic], &topic, start));
    two.until("a share", |route| !route.events.is_empty()).await;
    nodes.cont(other);
    assert_eq!(nodes.admin().groups().get(&topic).map(String::as_str), Some("Classic"));
    one.close().await;
    two.close().await;
}
