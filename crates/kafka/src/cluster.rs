//! A cluster as all routes of a relay share it: how connections are made, tokens, metadata, and the
//! memory of answers. Made once; each source and each producer has a handle.
//!
//! Connections that carry records are not shared: a fetch session belongs to one connection
//! (KIP-227), and requests of one route must not wait behind those of another. Neither are
//! librdkafka's clients: each is a member of one group.

mod memory;
mod settings;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::ClusterConfig;
use crate::connection::{Connector, Lending};
use crate::error::StartError;
use crate::metadata::MetadataHandle;
use crate::security::{Bearer, prepare};
pub(crate) use memory::{AnswerMemory, Budget, MemoryPermit};
pub(crate) use settings::{connection_settings, settings, source_settings};

/// A cluster. Clones are handles of the same one.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    config: ClusterConfig,
    tokens: Option<Arc<Bearer>>,
    /// The connections of our own, once something has wanted them. librdkafka takes settings that
    /// those do not.
    own: Mutex<Option<OwnConnections>>,
    memory: AnswerMemory,
    readers: Arc<Budget>,
}

/// The way to brokers without librdkafka.
#[derive(Clone)]
pub(crate) struct OwnConnections {
    /// Makes connections.
    pub(crate) connector: Arc<Connector>,
    /// Asks for metadata, over the one connection that there is for that.
    pub(crate) metadata: MetadataHandle,
    /// Connections for single exchanges, of readers.
    pub(crate) lending: Arc<Lending>,
}

impl Cluster {
    /// Checks the files and the settings of tokens; sends nothing.
    ///
    /// # Errors
    /// A file cannot be read, or the settings of OAUTHBEARER cannot be used.
    pub fn new(config: &ClusterConfig) -> Result<Self, StartError> {
        let memory = AnswerMemory::default();
        Ok(Self(Arc::new(Shared {
            readers: Arc::new(memory.budget()),
            tokens: prepare(&config.security)?,
            config: config.clone(),
            own: Mutex::default(),
            memory,
        })))
    }

    /// A cluster as another client meets it: by these connections, whose tokens are that one's.
    pub(crate) fn of_principal(
        config: ClusterConfig,
        tokens: Arc<Bearer>,
        connector: Arc<Connector>,
    ) -> Self {
        let memory = AnswerMemory::default();
        let own = Mutex::new(Some(OwnConnections::new(&config, connector)));
        let (readers, tokens) = (Arc::new(memory.budget()), Some(tokens));
        Self(Arc::new(Shared { config, tokens, own, memory, readers }))
    }

    /// Its settings.
    pub fn config(&self) -> &ClusterConfig {
        &self.0.config
    }

    /// The tokens that all clients and connections authenticate with, if they do by OAUTHBEARER.
    pub(crate) fn tokens(&self) -> Option<&Arc<Bearer>> {
        self.0.tokens.as_ref()
    }

    /// The memory of a route's answers.
    pub(crate) fn budget(&self) -> Budget {
        self.0.memory.budget()
    }

    /// The memory of the answers of all readers: they are as one route.
    pub(crate) fn reader_budget(&self) -> Arc<Budget> {
        Arc::clone(&self.0.readers)
    }

    /// The way to brokers without librdkafka.
    ///
    /// # Errors
    /// A certificate or a key cannot be used.
    pub(crate) fn own_connections(&self) -> Result<OwnConnections, StartError> {
        let mut own = self.0.own.lock();
        if let Some(own) = &*own {
            return Ok(own.clone());
        }
        let connector = Connector::new(&self.0.config, self.0.tokens.clone())?;
        Ok(own.insert(OwnConnections::new(&self.0.config, connector)).clone())
    }
}

impl OwnConnections {
    fn new(config: &ClusterConfig, connector: Arc<Connector>) -> Self {
        let servers = config.bootstrap_servers.clone();
        let metadata = MetadataHandle::new(Arc::clone(&connector), servers);
        let lending = Arc::new(Lending::new(Arc::clone(&connector)));
        Self { connector, metadata, lending }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.0.config).finish()
    }
}
