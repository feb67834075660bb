//! The identity of peers as the program has it: keys that are watched, and the gate of the sockets.

pub mod gate;
mod watch;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::IdentityConfig;
use crate::key_folder::Folder;
use gate::Identities;

/// Identity at work. Dropped, the folder is not watched any more.
#[derive(Debug)]
pub struct Identity {
    /// The gate of all sockets.
    pub gate: Arc<Identities>,
    _watching: JoinSet<()>,
}

/// Reads the keys that are known, and watches them from then on.
///
/// # Errors
/// The folder cannot be listed.
pub fn start(config: &IdentityConfig) -> std::io::Result<Identity> {
    let gate = Arc::new(Identities::new(config));
    let mut watching = JoinSet::new();
    if let Some(path) = &config.folder {
        let folder = watch::read(Folder::new(path.clone()), &gate)?;
        watching.spawn(watch::keep_watching(folder, Arc::clone(&gate)));
    }
    Ok(Identity { gate, _watching: watching })
}
