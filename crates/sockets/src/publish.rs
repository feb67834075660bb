//! The PUB socket: live fan-out of chunks to SUB and XSUB peers.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod publisher;
mod refusals;
mod shared;
mod snapshot;
mod subscriber;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Endpoint;
use crate::config::PubConfig;
use crate::demand::Demand;
use crate::gate::Gate;
use crate::label::Label;
use crate::link::{BindError, Endpoints, Stage};
use crate::origin::Origin;
use crate::wait::Wait;
pub use publisher::Publisher;
use shared::PubShared;
pub use snapshot::{PeerSnapshot, SocketSnapshot};

/// Time that peers have to answer the end of a connection with theirs.
const FAREWELL: Duration = Duration::from_secs(1);
/// Time between two looks at whether something has finished, without a signal.
const LOOK: Duration = Duration::from_millis(2);

/// A PUB socket with its listeners, connectors and peers.
#[derive(Debug)]
pub struct PubSocket {
    shared: Arc<PubShared>,
    endpoints: Vec<Endpoint>,
    tasks: Mutex<JoinSet<()>>,
}

impl PubSocket {
    /// Binds every `bind` endpoint and begins to connect to every `connect` endpoint. `name` is for
    /// the logs.
    ///
    /// # Errors
    /// The first endpoint that cannot be bound; those bound before it are let go.
    pub async fn start(name: &str, config: PubConfig) -> Result<(Self, Publisher), BindError> {
        Self::start_with_gate(name, config, None).await
    }

    /// The same; a gate admits peers and decides what each peer may have.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_gate(
        name: &str,
        config: PubConfig,
        gate: Option<Arc<dyn Gate>>,
    ) -> Result<(Self, Publisher), BindError> {
        let endpoints = Endpoints::bind(&config.bind, config.ipc_mode, &config.connect).await?;
        let shared = PubShared::new(name, config, gate);
        let serving = endpoints.serve(&shared);
        let publisher = Publisher::new(Arc::clone(&shared));
        let (endpoints, tasks) = (serving.endpoints, Mutex::new(serving.tasks));
        Ok((Self { shared, endpoints, tasks }, publisher))
    }

    /// The endpoints it is bound to, wildcards resolved, and those it connects to.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Returns the present waits, which are no fault. Peers are not looked at.
    pub fn waits(&self) -> Vec<Wait> {
        self.shared.full().into_iter().chain(self.shared.refused()).collect()
    }

    /// Demand for what has `frame` as its routing frame, or for anything if that is `None`;
    /// `min_peers` make it enough, of those that may have messages of the label.
    pub fn demand(&self, frame: Option<Vec<u8>>, label: Option<&Label>) -> Arc<Demand> {
        self.shared.ring().demand(frame.map(Bytes::from), label, self.shared.config.min_peers)
    }

    /// The label of a name, for origins and demand: the same one each time.
    pub fn label(&self, name: &str) -> Label {
        self.shared.ring().label(name)
    }

    /// Returns true if there were messages that no peer wanted.
    pub fn has_unheard(&self) -> bool {
        self.shared.ring().counters().unheard > 0
    }

    /// Waits until some demand became enough or too little. One waits at a time.
    pub async fn demand_changed(&self) {
        self.shared.demand_changed.notified().await;
    }

    /// Takes what is unsent of an origin out of the ring; messages that are half written are
    /// finished. The origin's delivered position does not move any more.
    pub fn withdraw(&self, origin: &Arc<Origin>) {
        self.shared.change(|ring| ring.withdraw(origin));
    }

    /// Waits until every peer has been written all that it is owed. Returns false if that took
    /// longer than `deadline`.
    pub async fn drained(&self, deadline: Instant) -> bool {
        loop {
            if self.shared.ring().is_drained() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// Ends every connection: what the kernel holds is still delivered, nothing else is.
    pub async fn close(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.shared.hub.enter(Stage::Closing);
        // Those that take longer are left to themselves.
        let _ = timeout(FAREWELL, self.shared.hub.none_left()).await;
    }
}

impl Drop for PubSocket {
    fn drop(&mut self) {
        self.shared.hub.enter(Stage::Closing);
    }
}
