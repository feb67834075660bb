//! The task of a reader: it carries out what the state says, and hands it the time.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};

use super::state::{RangeAction, RangeState};
use super::{Range, RangeItem};
use crate::cluster::{Budget, MemoryPermit, OwnConnections};
use crate::connection::{Connection, RequestError, decode};
use crate::fetcher::{ANSWER_LIMIT, FETCH_VERSIONS};

/// Time that a broker may take until an answer begins. It is not asked to wait for records.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The time in which an answer that has begun comes on by so many bytes.
const PROGRESS: (Duration, usize) = (Duration::from_secs(5), 16 << 10);

pub(super) struct RangeTask {
    pub(super) connections: OwnConnections,
    /// The memory of the answers of all readers.
    pub(super) memory: Arc<Budget>,
    pub(super) credit: watch::Receiver<u64>,
    pub(super) items: mpsc::Sender<RangeItem>,
}

impl RangeTask {
    /// Runs until the range ends. The reader aborts it when it is dropped.
    pub(super) async fn run(mut self, range: Range) {
        let topics = [Arc::clone(&range.topic_partition.topic)];
        let mut state = RangeState::new(range, 0, Instant::now());
        loop {
            let now = Instant::now();
            state.set_credit(*self.credit.borrow_and_update(), now);
            let item = match state.poll_action(now) {
                None => {
                    self.wait(&state).await;
                    continue;
                }
                Some(RangeAction::FetchMetadata { leave }) => {
                    let metadata = &mut self.connections.metadata;
                    if leave {
                        metadata.leave();
                    }
                    let answer = metadata.ask(&topics).await;
                    state.handle_metadata(answer, Instant::now());
                    continue;
                }
                Some(RangeAction::Fetch { address }) => {
                    match self.fetch(&mut state, &address).await {
                        Ok(Some((response, memory))) => {
                            state.handle_answer(response, memory, Instant::now());
                        }
                        Ok(None) => {}
                        Err(error) => state.handle_lost(error, Instant::now()),
                    }
                    continue;
                }
                Some(RangeAction::HandOut(records)) => RangeItem::Records(records),
                Some(RangeAction::End { position }) => RangeItem::End { position },
                Some(RangeAction::Fail(error)) => RangeItem::Failed(error),
            };
            let is_last = !matches!(item, RangeItem::Records(_));
            // Waits for the reader, which ends this task when it is dropped.
            if self.items.send(item).await.is_err() || is_last {
                return;
            }
            state.handle_taken(Instant::now());
        }
    }

    /// Waits for the time that the state names, or for another credit.
    async fn wait(&mut self, state: &RangeState) {
        let due = async {
            match state.poll_timeout() {
                Some((due, _)) => sleep_until(due.into()).await,
                // Only credit changes that.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            // The reader has the sender, and ends this task when it is dropped.
            _ = self.credit.changed() => {}
        }
    }

    /// Sends one request and receives its answer. `None` if there was nothing to be asked.
    async fn fetch(
        &self,
        state: &mut RangeState,
        address: &str,
    ) -> Result<Option<(FetchResponse, Arc<MemoryPermit>)>, RequestError> {
        let lending = &self.connections.lending;
        let mut lent = lending.lend(address).await?;
        loop {
            let newest = lent.connection.needed_version(ApiKey::Fetch, FETCH_VERSIONS)?;
            let round_trip = lent.connection.round_trip();
            let Some((request, version)) = state.request(newest, round_trip, Instant::now()) else {
                lending.give_back(lent);
                return Ok(None);
            };
            match self.exchange(&mut lent.connection, &request, version).await {
                Ok((mut body, memory)) => {
                    lending.give_back(lent);
                    let response = decode::<FetchRequest>(&mut body, version).map_err(|error| {
                        RequestError::Answer { broker: address.to_owned(), error }
                    })?;
                    return Ok(Some((response, memory)));
                }
                // It may have been closed while it was idle.
                Err(_) if lent.was_idle => {
                    lent = lending.lend_anew(lent).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        request: &FetchRequest,
        version: i16,
    ) -> Result<(Bytes, Arc<MemoryPermit>), RequestError> {
        let (broker, api) = (connection.address().to_owned(), ApiKey::Fetch);
        connection.renew().await?;
        connection.send(request, version).await?;
        let Ok(size) = timeout(ANSWER_WAIT, connection.receive_size(ANSWER_LIMIT)).await else {
            return Err(RequestError::Silent { broker, api });
        };
        let size = size?;
        // As long as the consumers of other readers keep what they were given.
        let memory = Arc::new(self.memory.reserve(size).await);
        let mut begun = connection.begun();
        loop {
            match timeout(PROGRESS.0, connection.receive(ANSWER_LIMIT)).await {
                Ok(body) => return Ok((body?, memory)),
                Err(_) if connection.begun() < begun + PROGRESS.1 => {
                    return Err(RequestError::Stopped { broker, api });
                }
                Err(_) => begun = connection.begun(),
            }
        }
    }
}
