//! Asks a cluster once, as a check of the configuration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Context, create, plain};
use crate::cluster::settings;
use crate::config::{ClusterConfig, TopicSelector};
use crate::error::ProbeError;
use crate::noise::Noise;
use crate::status::Board;
use crate::topics::{Selection, list};

const DEADLINE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(2);

/// Reaches the brokers, authenticates, and lists the topics that `selectors` mean, with their number of partitions.
/// Blocks for up to about 10 s.
///
/// # Errors
/// Where no broker answers, one refuses, or a topic that is named cannot be read.
pub fn probe(cluster: &ClusterConfig, selectors: &[TopicSelector]) -> Result<Vec<(String, i32)>, ProbeError> {
    let board = Arc::new(Board::default());
    let client = create(&settings(cluster), Context::new("check", &board, &Arc::new(Noise::default())))?;
    let selection = Selection::new(selectors);
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Errors come by the callbacks.
        let _ = client.poll(Duration::from_millis(50));
        match list(&client, &selection, WAIT) {
            Ok(listing) => {
                return match listing.missing.into_iter().next() {
                    None => Ok(listing.topics.into_iter().collect()),
                    Some((topic, reason)) => Err(ProbeError::Topic { topic, reason }),
                };
            }
            Err(error) if Instant::now() >= deadline => {
                let _ = client.poll(Duration::from_millis(50));
                return Err(ProbeError::Unreachable {
                    servers: cluster.bootstrap_servers.join(", "),
                    reason: board.status().last_error.unwrap_or_else(|| plain(&error)),
                });
            }
            Err(_) => {}
        }
    }
}
