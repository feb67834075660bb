//! The task that fetches from one broker: it connects, asks, and hands out what it is given, on and
//! on. While a large answer is handed out the broker works on the next one.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, FetchRequest};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::sleep_until;
use tracing::{debug, info};

use super::fetch_session::{
    FetchAnswer, FetchSession, FetchedPartition, LAST_BY_NAME, RejectedBatch,
};
use super::hand_out::{HandOut, due};
use super::position::{FetchPosition, ReturnReason};
use super::sizes::FetchSizes;
use super::{BrokerEvent, FetcherContext, ResponseContext};
use crate::assignment::Assignment;
use crate::backoff::Backoff;
use crate::connection::{Connection, ConnectionError, IDLE, RequestError, decode};
use crate::fetcher::{CorruptBatch, FetchFault};

/// Fetch versions: from the first that reports truncation (KIP-595) to the last whose fields we
/// know.
pub(crate) const VERSIONS: RangeInclusive<i16> = LAST_BY_NAME..=17;

/// The size in bytes from which on the next request is sent before an answer is handed out.
const LARGE: usize = 64 << 10;
/// Time without an answer after which the broker counts as troubled, and after which it is given
/// up.
const ANSWER_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// The time in which an answer that has begun comes on by so many bytes. After one without, the
/// broker counts as troubled; after two the answer is given up, and with it the memory that others
/// may wait for.
const PROGRESS: (Duration, usize) =
    (Duration::from_millis(if cfg!(test) { 1000 } else { 5000 }), 16 << 10);
/// The time without a request after which the end of a connection is taken for that of an idle one:
/// it is made again without a report.
const QUIET: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 1000 });
/// A batch that failed its checks so often, fetched again each time, will not pass them.
pub(crate) const CONFIRMED: u32 = 4;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// Commands to the task.
#[derive(Debug)]
pub(super) enum BrokerCommand {
    /// Fetch this.
    Add(FetchPosition),
    /// Fetch it no more, and give it back.
    Return(Arc<Assignment>),
    /// Fetch it no more.
    Drop(Arc<Assignment>),
    /// Connect, if nothing else is to be done, and report whether that succeeds.
    Probe,
}

/// The task's own.
pub(super) struct FetchTask {
    pub(super) id: i32,
    pub(super) address: String,
    pub(super) context: Arc<FetcherContext>,
    pub(super) session: FetchSession,
    pub(super) commands: UnboundedReceiver<BrokerCommand>,
    pub(super) events: UnboundedSender<BrokerEvent>,
    /// True if it is to connect though there is nothing to fetch.
    pub(super) probing: bool,
}

/// An answer, and its part of the memory that answers may take.
struct Frame {
    body: Bytes,
    response: Arc<ResponseContext>,
}

/// The command channel or the record channel is closed.
struct Ended;

/// The reason why a connection is left.
enum CloseReason {
    Ended,
    /// The end of an idle connection: nothing was asked for so long that the broker may have closed
    /// it.
    Idle,
    /// The requests on it are of no use.
    Lost(RequestError),
}

impl CloseReason {
    /// The same; an idle one, if its request failed at once and came after so long a time that the
    /// connection may have been closed.
    fn after_quiet(self, until: Instant) -> Self {
        match self {
            Self::Lost(error) if Instant::now() < until => {
                debug!(%error, "an idle connection was closed");
                Self::Idle
            }
            left => left,
        }
    }
}

impl From<Ended> for CloseReason {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl From<ConnectionError> for CloseReason {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error.into())
    }
}

impl FetchTask {
    /// Runs until the command channel closes, then gives back what it has.
    pub(super) async fn run(mut self) {
        self.run_until_closed().await;
        for position in self.session.drain() {
            self.send_event(BrokerEvent::Returned(position, ReturnReason::Requested));
        }
    }

    async fn run_until_closed(&mut self) {
        let mut failures = 0;
        loop {
            while self.session.is_empty() && !self.probing {
                let Some(command) = self.commands.recv().await else { return };
                self.handle_command(command);
            }
            let began = Instant::now();
            let left = match self.connect().await {
                Ok(connection) => self.fetch(connection).await,
                Err(left) => left,
            };
            let error = match left {
                CloseReason::Ended => return,
                CloseReason::Idle => continue,
                CloseReason::Lost(error) => error,
            };
            self.probing = false;
            self.context.reporter.report(&error.to_string());
            self.failed(error);
            if began.elapsed() > BACKOFF.longest {
                failures = 0;
            }
            if self.rest_until(Instant::now() + BACKOFF.after(failures)).await.is_err() {
                return;
            }
            failures += 1;
        }
    }

    fn send_event(&self, event: BrokerEvent) {
        // The receiver ends this task before it goes away.
        let _ = self.events.send(event);
    }

    fn failed(&self, error: RequestError) {
        // If this task is to end, another one may fetch from the broker: what becomes of this one
        // says nothing of it.
        if !self.commands.is_closed() {
            self.send_event(BrokerEvent::Failed { broker: self.id, error });
        }
    }

    fn handle_command(&mut self, command: BrokerCommand) {
        match command {
            BrokerCommand::Add(position) => self.session.insert(position),
            BrokerCommand::Return(assignment) => {
                let position = self.session.remove(&assignment).or_else(|| {
                    // A partition stopped at a corrupt batch is no longer in the session; only the
                    // dispatcher still tracks it.
                    let corrupt = assignment.corrupt_at().filter(|_| assignment.is_active())?;
                    Some(FetchPosition::new(
                        Arc::clone(&assignment),
                        assignment.generation(),
                        corrupt,
                    ))
                });
                if let Some(position) = position {
                    self.send_event(BrokerEvent::Returned(position, ReturnReason::Requested));
                }
            }
            BrokerCommand::Drop(assignment) => drop(self.session.remove(&assignment)),
            BrokerCommand::Probe => self.probing = true,
        }
    }

    /// Handles commands until `when`.
    async fn rest_until(&mut self, when: Instant) -> Result<(), Ended> {
        loop {
            tokio::select! {
                () = sleep_until(when.into()) => return Ok(()),
                command = self.commands.recv() => self.handle_command(command.ok_or(Ended)?),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, CloseReason> {
        let context = Arc::clone(&self.context);
        let address = self.address.clone();
        let connecting = context.connections.connector.connect(&address);
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                connected = &mut connecting => return Ok(connected?),
                command = self.commands.recv() => self.handle_command(command.ok_or(Ended)?),
            }
        }
    }

    async fn fetch(&mut self, mut connection: Connection) -> CloseReason {
        let version = match connection.needed_version(ApiKey::Fetch, VERSIONS) {
            Ok(version) => version,
            Err(error) => {
                self.failed(error);
                // Nothing is left to do but to be ended.
                while self.commands.recv().await.is_some() {}
                return CloseReason::Ended;
            }
        };
        let sizes = FetchSizes::for_round_trip(connection.round_trip());
        self.session.connected(sizes);
        debug!(route = self.context.reporter.route(), broker = self.id, version,
            round_trip = ?connection.round_trip(), answer_bytes = sizes.answer, "fetching");
        match self.exchange(&mut connection, version).await {
            Err(left) => left,
            Ok(never) => match never {},
        }
    }

    async fn exchange(
        &mut self,
        connection: &mut Connection,
        newest: i16,
    ) -> Result<Infallible, CloseReason> {
        let mut throttled = Instant::now();
        let mut asked = None;
        let mut last = Instant::now();
        let mut quiet_until = last;
        let mut connected = false;
        loop {
            if std::mem::take(&mut self.probing) {
                self.send_event(BrokerEvent::Connected(self.id));
            }
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.handle_command(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Err(CloseReason::Ended),
                }
            }
            let Some(version) = asked else {
                if Instant::now() < throttled {
                    self.rest_until(throttled).await?;
                }
                if last.elapsed() > IDLE {
                    return Err(CloseReason::Idle);
                }
                if last.elapsed() > QUIET {
                    quiet_until = Instant::now() + ANSWER_WAIT.0;
                }
                let asking = self.ask(connection, newest).await;
                asked = asking.map_err(|left| left.after_quiet(quiet_until))?;
                if asked.is_none() {
                    self.wait_for_work().await?;
                }
                continue;
            };
            let frame = self.receive(connection).await;
            let Frame { mut body, response: shared } =
                frame.map_err(|left| left.after_quiet(quiet_until))?;
            last = Instant::now();
            quiet_until = last;
            let response = decode::<FetchRequest>(&mut body, version);
            let response = response.map_err(|error| {
                CloseReason::Lost(RequestError::Answer { broker: self.address.clone(), error })
            })?;
            drop(body);
            if let Ok(throttle @ 1..) = u64::try_from(response.throttle_time_ms) {
                let pause = Duration::from_millis(throttle);
                throttled = Instant::now() + pause;
                self.context.health.set_throttled(self.id, pause);
                debug!(
                    route = self.context.reporter.route(),
                    broker = self.id,
                    throttle,
                    "throttled (ms)"
                );
            }
            let answer = self.session.answer(response, Instant::now());
            let FetchAnswer { partitions, removed, errors, corrupt, bytes } =
                answer.map_err(|error| {
                    let (broker, api) = (self.address.clone(), ApiKey::Fetch);
                    CloseReason::Lost(RequestError::Refused { broker, api, error })
                })?;
            if !std::mem::replace(&mut connected, true) {
                self.send_event(BrokerEvent::Connected(self.id));
            }
            for error in errors {
                self.context.reporter.report(&error.to_string());
            }
            for batch in corrupt {
                self.handle_corrupt(batch);
            }
            // The positions are past this answer already: whatever becomes of the next request, it
            // is handed out whole.
            let next = match bytes >= LARGE && Instant::now() >= throttled {
                true => self.ask(connection, newest).await,
                false => Ok(None),
            };
            let mut handed = false;
            for partition in due(partitions, next.is_err()) {
                handed |= self.hand_out(partition, &shared).await?;
            }
            drop(shared);
            for (position, why) in removed {
                self.send_event(BrokerEvent::Returned(position, why));
            }
            asked = next?;
            if handed && asked.is_none() {
                // The route goes first: a lone record does not wait for our next request. It runs
                // in our place, on the same thread, so that no other one is woken.
                self.context.records_tx.wait_until_received().await;
            }
        }
    }

    /// Sends the next request, if there is anything to be asked; returns its version.
    async fn ask(
        &mut self,
        connection: &mut Connection,
        newest: i16,
    ) -> Result<Option<i16>, CloseReason> {
        self.context.health.set_renewals(connection.renew().await?);
        let Some((request, version)) = self.session.request(newest, Instant::now()) else {
            return Ok(None);
        };
        connection.send(&request, version).await?;
        Ok(Some(version))
    }

    /// Waits while nothing is to be fetched: for a command, or for the end of a partition's rest.
    async fn wait_for_work(&mut self) -> Result<(), Ended> {
        let due = self.session.next_due();
        let rested = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                // Only a command changes that.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = rested => {}
            command = self.commands.recv() => self.handle_command(command.ok_or(Ended)?),
        }
        Ok(())
    }

    /// Waits for the answer, then for room to hold it, then reads it.
    async fn receive(&mut self, connection: &mut Connection) -> Result<Frame, CloseReason> {
        let since = Instant::now();
        let mut deadline = since + ANSWER_WAIT.0;
        let size = loop {
            tokio::select! {
                biased;
                size = connection.receive_size(self.context.limit) => break size?,
                command = self.commands.recv() => self.handle_command(command.ok_or(Ended)?),
                () = sleep_until(deadline.into()) => {
                    let (broker, api) = (self.address.clone(), ApiKey::Fetch);
                    let error = RequestError::Silent { broker, api };
                    if deadline > since + ANSWER_WAIT.0 {
                        return Err(CloseReason::Lost(error));
                    }
                    self.failed(error);
                    deadline = since + ANSWER_WAIT.1;
                }
            }
        };
        if deadline > since + ANSWER_WAIT.0 {
            self.send_event(BrokerEvent::Connected(self.id));
        }
        let response = self.reserve(size).await?;
        let body = self.receive_body(connection).await?;
        Ok(Frame { body, response })
    }

    /// Waits for the memory that an answer takes, for as long as the route lets the others wait.
    async fn reserve(&mut self, size: usize) -> Result<Arc<ResponseContext>, Ended> {
        let context = Arc::clone(&self.context);
        let memory = context.budget.reserve(size);
        tokio::pin!(memory);
        loop {
            tokio::select! {
                memory = &mut memory => {
                    let faults = context.faults.clone();
                    return Ok(Arc::new(ResponseContext { _memory: memory, faults }));
                }
                command = self.commands.recv() => self.handle_command(command.ok_or(Ended)?),
            }
        }
    }

    /// Reads an answer whose size is known.
    async fn receive_body(&mut self, connection: &mut Connection) -> Result<Bytes, CloseReason> {
        let mut progress = (Instant::now(), connection.begun());
        let mut slow = false;
        let body = loop {
            tokio::select! {
                biased;
                body = connection.receive(self.context.limit) => break body?,
                command = self.commands.recv() => self.handle_command(command.ok_or(Ended)?),
                () = sleep_until((progress.0 + PROGRESS.0).into()) => {
                    let begun = connection.begun();
                    let stopped = begun < progress.1 + PROGRESS.1;
                    let (broker, api) = (self.address.clone(), ApiKey::Fetch);
                    let error = RequestError::Stopped { broker, api };
                    match (stopped, slow) {
                        (true, true) => return Err(CloseReason::Lost(error)),
                        (true, false) => self.failed(error),
                        (false, true) => self.send_event(BrokerEvent::Connected(self.id)),
                        (false, false) => {}
                    }
                    slow = stopped;
                    progress = (Instant::now(), begun);
                }
            }
        };
        if slow {
            self.send_event(BrokerEvent::Connected(self.id));
        }
        Ok(body)
    }

    /// A batch cannot be read: for good, if that is so each time it is fetched.
    fn handle_corrupt(&self, batch: RejectedBatch) {
        let RejectedBatch { due, to, error, failures } = batch;
        if failures < CONFIRMED {
            self.context.reporter.report(&format!("{}: {error}", due.assignment));
        } else {
            let batch = CorruptBatch { due, next: to, error: error.into() };
            self.context.faults.send(FetchFault::Corrupt(batch));
        }
    }

    /// True if anything was handed out.
    async fn hand_out(
        &mut self,
        partition: FetchedPartition,
        shared: &Arc<ResponseContext>,
    ) -> Result<bool, Ended> {
        let context = Arc::clone(&self.context);
        let mut out = HandOut::new(partition);
        let mut handed = false;
        while !out.is_over() {
            // First the room: what is decompressed takes more memory than the answer does.
            let Some(slot) = context.records_tx.reserve().await else {
                info!(
                    route = context.reporter.route(),
                    broker = self.id,
                    "the route receives no more records"
                );
                return Err(Ended);
            };
            match out.next(&mut self.session, shared, Instant::now()) {
                Ok(Some(fetched)) => {
                    slot.send(fetched);
                    handed = true;
                }
                Ok(None) => break,
                Err(corrupt) => {
                    self.handle_corrupt(corrupt);
                    break;
                }
            }
        }
        Ok(handed)
    }
}
