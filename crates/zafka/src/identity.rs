//! The identity of peers as the program has it: keys that are watched, and the gate of the sockets.

mod asked;
mod audit;
mod counts;
mod door;
pub mod gate;
mod health;
mod introspected;
mod issuer_asker;
mod issuers;
mod kafka_asker;
mod kafka_counts;
mod kafka_rights;
mod keep_running;
mod lease_ends;
mod peer_tokens;
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
#[cfg(test)]
pub use counts::IntrospectionStatus;
pub use counts::{IdentityStatus, IssuerStatus};
use door::Door;
pub use gate::{Identities, to_secret, wall_clock};
pub use kafka_asker::ask as ask_kafka;
pub use kafka_counts::KafkaStatus;
use keep_running::keep_running;
pub use keep_running::tell_the_end;

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
            let health = Arc::clone(self.gate.health());
            self.tasks.spawn(tell_the_end("the door", health, door.keep(messages)));
        }
        Ok(())
    }

    /// Asks this cluster about peers, if rules say that Kafka decides: about these topics.
    pub fn ask(&mut self, cluster: &Cluster, topics: AskedTopics) {
        self.gate.set_topics(topics);
        if self.gate.kafka().is_some() {
            let (cluster, gate) = (cluster.clone(), Arc::clone(&self.gate));
            keep(&mut self.tasks, "what asks Kafka about peers".to_owned(), &gate, move |gate| {
                kafka_asker::keep_asking(cluster.clone(), gate)
            });
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
    if let Some(path) = config.folder.clone() {
        let mut first = Some(watch::read(Folder::new(path.clone()), &gate)?);
        keep(&mut tasks, "the watch of the folder of keys".to_owned(), &gate, move |gate| {
            // One that begins again has read nothing: what the folder does not say is forgotten.
            let folder = first.take().unwrap_or_else(|| Folder::new(path.clone()));
            watch::keep_watching(folder, gate)
        });
    }
    for (index, issuer) in config.issuers.iter().enumerate() {
        let (what, source) = (format!("the keys of {}", issuer.issuer.name), issuer.source.clone());
        keep(&mut tasks, what, &gate, move |gate| issuers::keep_fresh(source.clone(), index, gate));
        if issuer.introspection.is_some() {
            let what = format!("what asks {} about tokens", issuer.issuer.name);
            keep(&mut tasks, what, &gate, move |gate| issuer_asker::keep_asking(index, gate));
        }
    }
    keep(
        &mut tasks,
        "the end of leases and revocations".to_owned(),
        &gate,
        lease_ends::keep_ending,
    );
    Ok(Identity { gate, tasks })
}

/// Begins a task that is to run as long as `tasks` are kept.
fn keep<F>(
    tasks: &mut JoinSet<()>,
    what: String,
    gate: &Arc<Identities>,
    mut make: impl FnMut(Arc<Identities>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (gate, health) = (Arc::clone(gate), Arc::clone(gate.health()));
    tasks.spawn(async move {
        keep_running(&what, health, || make(Arc::clone(&gate))).await;
    });
}
