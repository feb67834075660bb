//! The identity of peers as the program has it: keys that are watched, and the gate of the sockets.

mod audit;
pub mod gate;
mod issuers;
mod lease_ends;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::IdentityConfig;
use crate::key_folder::Folder;
use gate::Identities;
pub use gate::wall_clock;

/// Identity at work. Dropped, the folder is not watched any more, and no keys are fetched.
#[derive(Debug)]
pub struct Identity {
    /// The gate of all sockets.
    pub gate: Arc<Identities>,
    _tasks: JoinSet<()>,
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
    Ok(Identity { gate, _tasks: tasks })
}
