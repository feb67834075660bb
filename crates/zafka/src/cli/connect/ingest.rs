//! Checks each route from ZeroMQ to Kafka against the cluster.

use std::io::{self, Write};

use zafka_bridge::zmq_to_kafka::{IngestConfig, OnError};
use zafka_kafka::config::TopicSelector;
use zafka_kafka::{ProbeError, Writable, probe_writing};

use crate::config::Config;

/// Asks the cluster for the topics that each route may write to, if there is such a route.
///
/// # Errors
/// If no broker answers, one refuses the client, or idempotent writes are not allowed.
pub fn ask(config: &Config) -> Result<Vec<Writable>, ProbeError> {
    if config.ingest.is_empty() {
        return Ok(Vec::new());
    }
    let routes: Vec<_> = config.ingest.iter().map(written).collect();
    probe_writing(&config.cluster, &routes)
}

/// The topics that a route may write to, its dead-letter topic among them. None of a route that
/// writes in its senders' names: what each of them may do is seen once it is there.
fn written(route: &IngestConfig) -> Vec<TopicSelector> {
    if route.as_peer {
        return Vec::new();
    }
    let mut topics = match route.mapping.topic.constant() {
        Some(topic) => vec![TopicSelector::Name(topic)],
        None => route.mapping.allowed.clone(),
    };
    if let OnError::DeadLetter(topic) = &route.on_error {
        topics.push(TopicSelector::Name(topic.clone()));
    }
    topics
}

/// Lists what a route can write to, with what keeps it from that and what may not be meant. Gives
/// the number of errors.
pub fn show(found: &Writable, out: &mut dyn Write) -> io::Result<usize> {
    for topic in &found.topics {
        let plural = if topic.partitions == 1 { "" } else { "s" };
        writeln!(out, "  {}: {} partition{plural}", topic.name, topic.partitions)?;
    }
    for (topic, fault) in &found.faults {
        writeln!(out, "  error: topic {topic:?}: {fault}")?;
    }
    if found.topics.is_empty() && found.faults.is_empty() {
        writeln!(out, "  warning: no topic matches now, and none is created by a message")?;
    }
    for topic in found.topics.iter().filter(|topic| topic.min_insync_replicas == Some(1)) {
        writeln!(
            out,
            "  warning: topic {:?}: min.insync.replicas is 1: what is acknowledged may be on one \
             broker alone",
            topic.name
        )?;
    }
    Ok(found.faults.len())
}

#[cfg(test)]
mod tests {
    use zafka_kafka::{WritableTopic, WriteFault};

    use super::*;
    use crate::relay_url::relay;

    #[test]
    fn topics_then_errors_and_warnings() {
        let source = "pull+tcp://127.0.0.1:1?frames={topic}&frames={value}";
        let config = relay(source, "kafka://k:1/{topic}?topics=a&topics=/^b.$/", None).unwrap();
        let topic = |name: &str, partitions, min_insync_replicas| WritableTopic {
            name: name.to_owned(),
            partitions,
            min_insync_replicas,
        };
        let shown = |topics, faults| {
            let mut out = Vec::new();
            let errors = show(&Writable { topics, faults }, &mut out).unwrap();
            (errors, String::from_utf8(out).unwrap())
        };
        let topics = vec![topic("a", 1, Some(2)), topic("bx", 3, Some(1)), topic("by", 3, None)];
        let (errors, out) = shown(topics, vec![("bz".to_owned(), WriteFault::NotAuthorized)]);
        assert_eq!(errors, 1);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[..3], ["  a: 1 partition", "  bx: 3 partitions", "  by: 3 partitions"]);
        assert_eq!(lines[3], "  error: topic \"bz\": not authorized to write to it");
        assert!(lines[4].contains("topic \"bx\": min.insync.replicas is 1"), "{out}");
        assert_eq!(lines.len(), 5, "{out}");
        let (errors, out) = shown(Vec::new(), Vec::new());
        assert!(errors == 0 && out.contains("no topic matches now"), "{out}");
        assert_eq!(written(&config.ingest[0]).len(), 2);
    }
}
