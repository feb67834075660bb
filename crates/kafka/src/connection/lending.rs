//! Connections that are lent for one exchange after the other, so that a short read does not pay
//! for TCP, TLS and SASL each time, and many reads do not take as many connections.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Connection, ConnectionError, Connector, IDLE};

/// Connections that are lent at once, over all brokers; as many are kept.
const MOST: usize = 16;

/// Connections to the brokers of a cluster, to be used one exchange at a time.
pub(crate) struct Lending {
    connector: Arc<Connector>,
    /// Those that are not lent, the one used last at the end.
    idle: Mutex<Vec<(Connection, Instant)>>,
    turns: Arc<Semaphore>,
}

/// A connection that is lent. One that is dropped is closed: an answer may still be due on it.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    /// True if it was used before, and may have been closed since.
    pub(crate) was_idle: bool,
    turn: OwnedSemaphorePermit,
}

impl Lending {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, idle: Mutex::default(), turns: Arc::new(Semaphore::new(MOST)) }
    }

    /// A connection to the broker at this address. Waits for a turn; the exchanges of others have
    /// deadlines.
    ///
    /// # Errors
    /// None could be made.
    pub(crate) async fn lend(&self, address: &str) -> Result<Lent, ConnectionError> {
        let turn = loop {
            // It is never closed.
            if let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await {
                break turn;
            }
        };
        let idle = {
            let mut idle = self.idle.lock();
            idle.retain(|(_, used)| used.elapsed() < IDLE);
            let found = idle.iter().rposition(|(connection, _)| connection.address() == address);
            found.map(|found| idle.remove(found).0)
        };
        match idle {
            Some(connection) => Ok(Lent { connection, was_idle: true, turn }),
            None => self.connect(address, turn).await,
        }
    }

    /// Another one in place of an idle one that was of no use.
    ///
    /// # Errors
    /// As [`Self::lend`].
    pub(crate) async fn lend_anew(&self, lent: Lent) -> Result<Lent, ConnectionError> {
        let Lent { connection, turn, .. } = lent;
        let address = connection.address().to_owned();
        drop(connection);
        self.connect(&address, turn).await
    }

    /// Takes it back, its answer received.
    pub(crate) fn give_back(&self, lent: Lent) {
        let mut idle = self.idle.lock();
        if idle.len() >= MOST {
            idle.remove(0);
        }
        idle.push((lent.connection, Instant::now()));
    }

    async fn connect(
        &self,
        address: &str,
        turn: OwnedSemaphorePermit,
    ) -> Result<Lent, ConnectionError> {
        let connection = self.connector.connect(address).await?;
        Ok(Lent { connection, was_idle: false, turn })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, MetadataRequest, MetadataResponse};

    use super::super::tests::fake::{Count, api_versions, broker};
    use super::*;
    use crate::config::ClusterConfig;

    #[tokio::test]
    async fn a_connection_is_lent_again() {
        let made = Count::default();
        let count = Arc::clone(&made);
        let address = broker(move |asked| match asked.key {
            ApiKey::Metadata => asked.answer::<MetadataRequest>(&MetadataResponse::default()),
            _ => {
                count.fetch_add(1, Ordering::Relaxed);
                asked.answer::<ApiVersionsRequest>(&api_versions())
            }
        })
        .await;
        let cluster = ClusterConfig::new(Vec::new());
        let lending = Lending::new(Connector::new(&cluster, None).unwrap());
        for round in 0..3 {
            let mut lent = lending.lend(&address).await.unwrap();
            assert_eq!(lent.was_idle, round > 0);
            let request = MetadataRequest::default();
            lent.connection.ask(&request, 12, 1000).await.unwrap();
            lending.give_back(lent);
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let lent = lending.lend(&address).await.unwrap();
        let lent = lending.lend_anew(lent).await.unwrap();
        assert_eq!((lent.was_idle, made.load(Ordering::Relaxed)), (false, 2));
        drop(lent);
        assert!(!lending.lend(&address).await.unwrap().was_idle, "a dropped one is closed");
    }
}
