//! Over a network that is slow, stalls and breaks; to a broker that hangs; at a quota.

use std::time::Duration;

use zafka_kafka::produce::ProducerKind;
use zafka_testkit::{KafkaNode, unique};

use super::{Writer, settings};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn slow_stalled_and_broken_connections_lose_nothing() {
    let (mut node, proxy) = KafkaNode::start_behind_proxy();
    let topic = unique("slow");
    node.admin().create_topic(&topic, 3, &[]);
    let mut writer = Writer::start(node.bootstrap(), &settings(ProducerKind::Fast));
    // A broker that has just begun may have no producer id yet.
    writer.send(&topic, Some("k0"));
    writer.until_all_told().await;
    let errors = writer.producer.health().errors();
    proxy.slow(100_000);
    for number in 0..300 {
        writer.send_record(&topic, Some("k0"), format!("k0 {number:01000}"));
    }
    writer.until_all_told().await;
    assert_eq!(writer.producer.health().errors(), errors, "slow is not broken");
    proxy.resume();

    // Requests and answers are lost, in the middle of them too.
    let _proxy = writer
        .load(&topic, move || {
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(100));
                proxy.cut();
            }
            proxy
        })
        .await;
    writer.until_all_told().await;

    let hangs = |writer: &Writer| {
        let reason = writer.producer.health().not_ready();
        reason.is_some_and(|reason| reason.contains("no answer to a produce request"))
    };
    // What the broker has of them it works on later.
    node.stop_process();
    for _ in 0..100 {
        writer.send(&topic, Some("k0"));
    }
    writer.until("word of a broker that hangs", hangs).await;
    node.cont();
    writer.until_all_told().await;
    writer.until("readiness", |writer| writer.producer.health().not_ready().is_none()).await;
    assert!(writer.told.values().all(Result::is_ok));
    writer.assert_told_truly(&topic).await;

    // Of ten seconds, over which the broker counts.
    node.admin().limit_producers(Some(50_000));
    let before = writer.sent.len();
    let mut waits = Vec::new();
    for number in before..before + 600 {
        writer.send_record(&topic, Some("k1"), format!("k1 {number:01000}"));
        writer.step().await;
        waits.extend(writer.producer.health().waits());
    }
    writer.until_all_told().await;
    waits.extend(writer.producer.health().waits());
    assert!(waits.iter().any(|wait| wait.reason.contains("quota")), "{waits:?}");
    assert!(writer.told.values().all(Result::is_ok));
    writer.assert_told_truly(&topic).await;
    writer.producer.close().await;
}
