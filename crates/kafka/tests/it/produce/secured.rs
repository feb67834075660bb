//! Into a secured Kafka: by every way in, and without the right to write.

use std::time::Instant;

use zafka_kafka::config::Sasl;
use zafka_kafka::produce::{ProducerKind, WriteError};
use zafka_testkit::kafka::PASSWORD;
use zafka_testkit::unique;

use super::{Writer, settings};
use crate::route::PATIENCE;
use crate::secured::{at, credentials_of, kafka, tls, ways_in};

on_both_producers!(every_way_in_writes, "needs Java and Maven");
async fn every_way_in_writes(producing: ProducerKind) {
    let kafka = kafka();
    let topic = unique("written");
    kafka.admin().create_topic(&topic, 2, &[]);
    let mut is_first = true;
    for (name, cluster) in ways_in(kafka) {
        println!("{name}");
        let mut writer = Writer::start_in(cluster, &settings(producing));
        if std::mem::take(&mut is_first) {
            allow("zafka", &topic, &mut writer).await;
        }
        let first = writer.sent.len();
        for number in 0..500 {
            writer.send(&topic, Some(&format!("{name}{}", number % 5)));
        }
        writer.until_all_told().await;
        assert!(writer.told.range(first..).all(|(_, told)| told.is_ok()), "{name}");
        writer.producer.close().await;
    }
}

/// Lets a user read and write a topic, and writes to it until that is so: the broker learns of
/// rights a moment later.
async fn allow(user: &str, topic: &str, writer: &mut Writer) {
    for operation in ["read", "write"] {
        kafka().admin().allow(user, operation, "topic", topic);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ticket = writer.sent.len();
        writer.send(topic, Some("k0"));
        writer.until_all_told().await;
        match &writer.told[&ticket] {
            Ok(_) => return,
            Err(WriteError::NotAllowed(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and Maven"]
async fn what_is_not_allowed_is_told_and_keeps_nothing_else_waiting() {
    let (kafka, admin) = (kafka(), kafka().admin());
    let [hidden, shown, open] = ["hidden", "shown", "open"].map(unique);
    for topic in [&hidden, &shown, &open] {
        admin.create_topic(topic, 1, &[]);
    }
    admin.allow("mallory", "describe", "topic", &shown);
    admin.allow("mallory", "describe", "topic", &open);
    let credentials = credentials_of("mallory", PASSWORD);
    let cluster = at(&kafka.sasl(), tls(), Some(Sasl::ScramSha512(credentials)));
    let mut writer = Writer::start_in(cluster, &settings(ProducerKind::Fast));
    // Who may write nowhere gets no producer id.
    writer.send(&open, Some("k0"));
    writer.until_all_told().await;
    let refusal = |writer: &Writer, ticket| match &writer.told[&ticket] {
        Err(WriteError::NotAllowed(reason)) => reason.clone(),
        told => panic!("{told:?}"),
    };
    assert!(refusal(&writer, 0).contains("IdempotentWrite"), "{}", refusal(&writer, 0));

    allow("mallory", &open, &mut writer).await;
    let first = writer.sent.len();
    for topic in [&hidden, &shown, &open] {
        writer.send(topic, Some("k0"));
    }
    writer.until_all_told().await;
    for ticket in [first, first + 1] {
        let reason = refusal(&writer, ticket);
        assert!(reason.contains("TopicAuthorizationFailed"), "{reason}");
    }
    assert!(writer.told[&(first + 2)].is_ok(), "{:?}", writer.told);
    allow("mallory", &shown, &mut writer).await;
    for topic in [&shown, &open] {
        writer.assert_told_truly(topic).await;
    }
    writer.producer.close().await;
}
