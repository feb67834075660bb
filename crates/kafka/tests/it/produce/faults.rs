//! Against three real nodes that fail.

use std::sync::LazyLock;

use tokio::sync::{Mutex, MutexGuard};
use zafka_kafka::produce::{ProducerConfig, ProducerKind, WriteError};
use zafka_testkit::{KafkaCluster, KafkaNode, unique};

use super::{Writer, settings};

/// Three nodes that tests break in turn; each finds all of them running.
async fn nodes() -> MutexGuard<'static, KafkaCluster> {
    static NODES: LazyLock<Mutex<KafkaCluster>> =
        LazyLock::new(|| Mutex::new(KafkaCluster::start(3)));
    let mut nodes = NODES.lock().await;
    nodes.revive();
    nodes
}

on_both_producers!(leaders_that_die_and_move_lose_nothing, "needs Java and Maven");
async fn leaders_that_die_and_move_lose_nothing(producing: ProducerKind) {
    let mut nodes = nodes().await;
    let topic = unique("moved");
    nodes.admin().create_topic(&topic, 2, &[("min.insync.replicas", "2")]);
    let mut writer = Writer::start(&nodes.bootstrap(), &settings(producing));
    for round in 0..3 {
        let name = topic.clone();
        nodes = writer
            .load(&topic, move || {
                let leader = nodes.leader_of(&name, 0).unwrap();
                match round {
                    0 => {
                        nodes.kill9(leader);
                        nodes.restart(leader);
                    }
                    1 => nodes.admin().move_leader(&name, 0, leader % 3 + 1),
                    _ => {
                        nodes.terminate(leader);
                        nodes.restart(leader);
                    }
                }
                nodes
            })
            .await;
    }
    writer.until_all_told().await;
    assert!(
        writer.told.values().all(Result::is_ok),
        "{:?}",
        writer.told.values().find(|told| told.is_err())
    );
    writer.assert_told_truly(&topic).await;
    writer.producer.close().await;
}

on_both_producers!(with_too_few_replicas_everything_waits, "needs Java and Maven");
async fn with_too_few_replicas_everything_waits(producing: ProducerKind) {
    let mut nodes = nodes().await;
    let topic = unique("few");
    let settings_of_topic = [("min.insync.replicas", "2")];
    nodes.admin().create_topic_on(&topic, &[vec![1, 2]], &settings_of_topic);
    let mut writer = Writer::start(&nodes.bootstrap(), &settings(producing));
    writer.send(&topic, Some("k0"));
    writer.until_all_told().await;
    nodes.terminate(2);
    for _ in 0..50 {
        writer.send(&topic, Some("k0"));
        writer.step().await;
    }
    if producing == ProducerKind::Fast {
        writer
            .until("the reason", |writer| {
                let reason = writer.producer.health().not_ready();
                reason.is_some_and(|reason| reason.contains("NotEnoughReplicas"))
            })
            .await;
    }
    // What was told until the broker noticed is there.
    let told = writer.told.len();
    assert!(told < writer.sent.len(), "nothing waits");
    let _nodes = writer
        .load(&topic, move || {
            nodes.restart(2);
            nodes
        })
        .await;
    writer.until_all_told().await;
    assert!(writer.told.values().all(Result::is_ok));
    writer.until("readiness", |writer| writer.producer.health().not_ready().is_none()).await;
    writer.assert_told_truly(&topic).await;
    writer.producer.close().await;
}

on_both_producers!(a_record_that_is_too_large_fails_alone, "needs Java and Maven");
async fn a_record_that_is_too_large_fails_alone(producing: ProducerKind) {
    let node = KafkaNode::shared();
    let topic = unique("small");
    node.admin().create_topic(&topic, 1, &[("max.message.bytes", "2000")]);
    let mut writer = Writer::start(node.bootstrap(), &settings(producing));
    for number in 0..40 {
        let padding = if number % 8 == 3 { 3000 } else { 100 };
        writer.send_record(&topic, Some("k0"), format!("k0 {number} {:padding$}", ""));
        if producing == ProducerKind::Librdkafka {
            // It does not divide a batch.
            writer.until_all_told().await;
        }
    }
    writer.until_all_told().await;
    for (ticket, outcome) in &writer.told {
        let is_large = ticket % 8 == 3;
        assert_eq!(
            matches!(outcome, Err(WriteError::TooLarge(_))),
            is_large,
            "{ticket}: {outcome:?}"
        );
        assert_eq!(outcome.is_ok(), !is_large, "{ticket}: {outcome:?}");
    }
    writer.assert_told_truly(&topic).await;
    writer.producer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn a_topic_may_grow_and_be_made_again_while_it_is_written() {
    let node = KafkaNode::shared();
    let topic = unique("again");
    node.admin().create_topic(&topic, 1, &[]);
    let mut writer = Writer::start(node.bootstrap(), &settings(ProducerKind::Fast));
    let name = topic.clone();
    writer.load(&topic, move || node.admin().add_partitions(&name, 3)).await;
    writer.until_all_told().await;
    assert!(writer.told.values().all(Result::is_ok));
    writer.assert_told_truly(&topic).await;
    let before = writer.sent.len();
    let name = topic.clone();
    writer
        .load(&topic, move || {
            node.admin().delete_topic(&name);
            node.admin().create_topic(&name, 2, &[]);
        })
        .await;
    writer.until_all_told().await;
    // Those that were reported as written before it was deleted have gone with it.
    for ticket in before..writer.sent.len() {
        assert!(!matches!(writer.told[&ticket], Err(WriteError::TooLarge(_))));
    }
    let after = writer.sent.len();
    for _ in 0..100 {
        writer.send(&topic, Some("k0"));
    }
    writer.until_all_told().await;
    for ticket in after..writer.sent.len() {
        assert!(writer.told[&ticket].is_ok(), "{:?}", writer.told[&ticket]);
    }
    writer.producer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn what_is_not_there_is_told_so_and_what_is_not_allowed_too() {
    let node = KafkaNode::shared();
    let topic = unique("there");
    node.admin().create_topic(&topic, 1, &[]);
    let config = ProducerConfig { ..settings(ProducerKind::Fast) };
    let mut writer = Writer::start(node.bootstrap(), &config);
    writer.send(&unique("absent"), Some("k0"));
    writer.send(&topic, Some("k0"));
    writer.until_all_told().await;
    assert!(writer.told[&1].is_ok());
    let error = writer.told[&0].as_ref().unwrap_err();
    assert!(matches!(error, WriteError::Kafka { retriable: false, .. }), "{error:?}");
    writer.producer.close().await;
}
