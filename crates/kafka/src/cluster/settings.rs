//! librdkafka's settings for a cluster, a bootstrap client and a source.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::{ClusterConfig, GroupProtocol, Isolation, SourceConfig};
use crate::coordinator::{ASSIGNOR, SESSION_TIMEOUT};
use crate::security;

/// Bytes that are fetched ahead, over all partitions of a source.
const PREFETCH_BYTES: usize = 64 << 20;
/// The least and the most of them for one partition.
const PREFETCH_PARTITION_KB: (usize, usize) = (256, 16 << 10);
/// The most that one partition gives in one response, unless its first batch is larger (KIP-74).
const PARTITION_FETCH_BYTES: (usize, usize) = (128 << 10, 1 << 20);
/// The most of one response, unless its first batch is larger.
const FETCH_BYTES: usize = 8 << 20;
/// The largest response that is believed; a record is at most about this large.
const RESPONSE_BYTES: usize = 512 << 20;
/// Time between two heartbeats of the classic protocol, at the most.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// librdkafka leaves the group if it is not polled for so long.
const POLLED: Duration = Duration::from_secs(300);

/// A client that reads or asks.
pub(crate) fn settings(cluster: &ClusterConfig) -> ClientConfig {
    let mut settings = connection_settings(cluster);
    settings.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    if let Some(rack) = &cluster.client_rack {
        settings.set("client.rack", rack);
    }
    settings
}

/// The settings that every client needs.
pub(crate) fn connection_settings(cluster: &ClusterConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    // It takes the dot that makes a name complete for a part of what the certificate must name.
    let servers = cluster.bootstrap_servers.iter().map(|server| server.replacen(".:", ":", 1));
    settings
        .set("bootstrap.servers", servers.collect::<Vec<_>>().join(","))
        .set("client.id", "zafka")
        .set("allow.auto.create.topics", "false")
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "5000")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set_log_level(RDKafkaLogLevel::Info);
    security::configure(&cluster.security, &mut settings);
    settings
}

/// A client that reads `partitions` partitions; a member of the group by `protocol`, if there is a
/// group.
pub(crate) fn source_settings(
    cluster: &ClusterConfig,
    config: &SourceConfig,
    protocol: GroupProtocol,
    partitions: usize,
) -> ClientConfig {
    let mut settings = settings(cluster);
    let share = PREFETCH_BYTES / partitions.max(1);
    let prefetch_kb = (share >> 10).clamp(PREFETCH_PARTITION_KB.0, PREFETCH_PARTITION_KB.1);
    let partition_bytes = (share / 2).clamp(PARTITION_FETCH_BYTES.0, PARTITION_FETCH_BYTES.1);
    settings
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .set(
            "isolation.level",
            match config.isolation {
                Isolation::ReadCommitted => "read_committed",
                Isolation::ReadUncommitted => "read_uncommitted",
            },
        )
        .set("fetch.min.bytes", "1")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", prefetch_kb.to_string())
        .set("fetch.message.max.bytes", partition_bytes.to_string())
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        .set("receive.message.max.bytes", RESPONSE_BYTES.to_string())
        .set("topic.metadata.refresh.interval.ms", refresh_ms(config.topic_refresh))
        .set("statistics.interval.ms", "1000");
    let Some(group) = &config.group else { return settings };
    settings.set("group.id", &group.id);
    if let Some(instance) = &group.instance {
        settings.set("group.instance.id", instance);
    }
    match protocol {
        GroupProtocol::Consumer => {
            settings.set("group.protocol", "consumer");
        }
        GroupProtocol::Classic => {
            let session = group.session_timeout.unwrap_or(SESSION_TIMEOUT);
            settings
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", ASSIGNOR)
                .set("session.timeout.ms", session.as_millis().to_string())
                .set("heartbeat.interval.ms", (session / 3).min(HEARTBEAT).as_millis().to_string())
                // Not below the session timeout, says librdkafka; no thread here waits for so long
                // between two polls.
                .set("max.poll.interval.ms", session.max(POLLED).as_millis().to_string());
        }
    }
    settings
}

/// librdkafka keeps metadata for three times this, and reckons that in microseconds with 32 bits:
/// more than 11 minutes would make it forget everything at once. Topics are listed by us, so it may
/// ask more often.
fn refresh_ms(time: Duration) -> String {
    time.as_millis().clamp(100, 600_000).to_string()
}
