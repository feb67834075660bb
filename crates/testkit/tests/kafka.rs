//! The Kafka harness itself.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use zafka_testkit::{Admin, KafkaCluster, KafkaNode, Record, Sequence, unique};

#[test]
#[ignore = "needs Java and Maven"]
fn a_shared_node_takes_records_and_transactions() {
    let admin = KafkaNode::shared().admin();
    let topic = unique("orders");
    admin.create_topic(&topic, 2, &[]);
    let produced = admin
        .produce_sequence(&Sequence { partitions: vec![0, 1], ..Sequence::new(&topic, 100_000) });
    assert_eq!(produced.len(), 100_000);
    assert_eq!((produced[99_999].partition, produced[99_999].offset), (1, 49_999));

    admin.begin("t");
    admin.produce_as(&topic, &[Record::new("k", "v").partition(0)], "zstd", Some("t"));
    let info = admin.describe(&topic);
    assert_eq!((info.partition(0).latest, info.partition(0).stable), (50_001, 50_000));
    admin.abort("t");

    let big = Record { value: Some(vec![7; 10_000_000]), ..Record::default() };
    let topic = unique("big");
    admin.create_topic(&topic, 1, &[("max.message.bytes", "20000000")]);
    assert_eq!(admin.produce(&topic, &[big])[0].offset, 0);
    admin.delete_records(&topic, 0, 1);
    assert_eq!(admin.describe(&topic).partition(0).earliest, 1);
    admin.delete_topic(&topic);
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_node_keeps_its_data_over_a_kill() {
    let mut node = KafkaNode::start();
    node.admin().create_topic("orders", 1, &[]);
    node.admin().produce_sequence(&Sequence::new("orders", 10));
    node.kill9();
    node.restart();
    assert_eq!(node.admin().describe("orders").partition(0).latest, 10);
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_cluster_moves_leaders() {
    let mut cluster = KafkaCluster::start(3);
    cluster.admin().create_topic_on("orders", &[vec![1, 2, 3]], &[]);
    zafka_testkit::wait_until("node 1 to lead", Duration::from_secs(20), || {
        cluster.leader_of("orders", 0) == Some(1)
    });
    cluster.admin().move_leader("orders", 0, 2);
    zafka_testkit::wait_until("node 2 to lead", Duration::from_secs(20), || {
        cluster.leader_of("orders", 0) == Some(2)
    });
    cluster.kill9(2);
    zafka_testkit::wait_until("another leader", Duration::from_secs(40), || {
        cluster.leader_of("orders", 0).is_some_and(|node| node != 2)
    });
    cluster.admin().produce_sequence(&Sequence::new("orders", 10));
    cluster.restart(2);
}

#[test]
#[ignore = "needs Java and Maven"]
fn clients_of_a_node_behind_a_proxy_come_through_it() {
    let (node, proxy) = KafkaNode::start_behind_proxy();
    node.admin().create_topic("orders", 1, &[]);
    assert_eq!(proxy.accepted(), 0);
    let client = Admin::connect(node.bootstrap());
    client.produce("orders", &[Record::new("k", "v")]);
    // One connection for the bootstrap, another to the address that it advertises.
    assert!(proxy.accepted() >= 2, "{}", proxy.accepted());
    proxy.cut();
    client.produce("orders", &[Record::new("k", "v")]);
    assert_eq!(node.admin().describe("orders").partition(0).latest, 2);
}
