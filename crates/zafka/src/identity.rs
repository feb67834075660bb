//! The identity of peers as the program has it: keys that are watched, and the gate of the sockets.

mod audit;
mod counts;
mod door;
pub mod gate;
mod issuers;
mod kafka_asker;
mod kafka_rights;
mod lease_ends;
#[cfg(test)]
pub mod tests;
mod watch;

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::info;
use zafka_kafka::{AskedTopics, Cluster};
use zafka_sockets::BindError;
use zafka_sockets::config::EndpointConfig;

use crate::config::IdentityConfig;
use crate::key_folder::Folder;
pub use counts::{IdentityStatus, IssuerStatus};
use door::Door;
pub use gate::{Identities, wall_clock};
pub use kafka_asker::ask as ask_kafka;

/// Identity at work. Dropped, the folder is not watched any more, and no keys are fetched.
#[derive(Debug)]
pub struct Identity {
    /// The gate of all sockets.
    pub gate: Arc<Identities>,
    tasks: JoinSet<()>,
}

impl Identity {
    /// Opens the door at these endpoints; without one there is no door.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub async fn open_door(&mut self, bind: &[EndpointConfig]) -> Result<(), BindError> {
        if !bind.is_empty() {
            let (door, messages) = Door::bind(bind, &self.gate).await?;
            let endpoints: Vec<_> = door.endpoints().iter().map(ToString::to_string).collect();
            info!(endpoints = endpoints.join(", "), "the door is open: keys are enrolled there");
            self.tasks.spawn(door.keep(messages));
        }
        Ok(())
    }

    /// Asks this cluster about peers, if rules say that Kafka decides: about these topics.
    pub fn ask(&mut self, cluster: &Cluster, topics: AskedTopics) {
        self.gate.set_topics(topics);
        if self.gate.kafka().is_some() {
            let gate = Arc::clone(&self.gate);
            self.tasks.spawn(kafka_asker::keep_asking(cluster.clone(), gate));
        }
    }
}

/// Reads the keys that are known, and watches them from then on. The keys of issuers are fetched
/// meanwhile: their tokens are not taken before.
///
/// # Errors
/// The folder cannot be listed.
pub fn start(config: &IdentityConfig) -> std::io::Result<Identity> {
    let gate = Arc::new(Identities::new(config));
    let mut tasks = JoinSet::new();
    if let Some(path) = &config.folder {
        let folder = watch::read(Folder::new(path.clone()), &gate)?;
        tasks.spawn(watch::keep_watching(folder, Arc::clone(&gate)));
    }
    for (index, issuer) in config.issuers.iter().enumerate() {
        tasks.spawn(issuers::keep_fresh(issuer.source.clone(), index, Arc::clone(&gate)));
    }
    if !config.issuers.is_empty() {
        tasks.spawn(lease_ends::keep_ending(Arc::clone(&gate)));
    }
    Ok(Identity { gate, tasks })
}
