//! The task of one broker: it connects once there is something to send, sends what it is given, and
//! reports the answers. It decides nothing.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest, ProduceRequest};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::sleep_until;
use tracing::debug;

use super::Key;
use super::events::Event;
use super::request::{self, Item};
use crate::connection::{
    Connection, ConnectionError, Connector, IDLE, Pipeline, RequestError, decode,
};
use crate::health::SourceHealth;
use crate::records::ProducerId;

const PRODUCER_ID_VERSIONS: std::ops::RangeInclusive<i16> = 2..=4;
/// Time that the broker may wait for its replicas before it answers REQUEST_TIMED_OUT.
const REPLICATION: Duration = Duration::from_secs(15);
/// Time without a byte written or read while requests are under way, after which the broker counts
/// as troubled, and after which the connection is given up.
const STANDSTILL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(25));
/// Time until the connection to a broker is given up that no longer leads what it was sent.
const LEFT: Duration = Duration::from_secs(2);
/// Time without a request after which the end of a connection is taken for that of an idle one.
const QUIET: Duration = Duration::from_secs(1);

/// A command to the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Send a Produce request of these items, sorted by topic.
    Produce(Vec<Item>),
    /// Ask for a producer id.
    ProducerId(Key),
    /// Wait no longer: another broker leads something that it was sent.
    Leave,
}

/// A request that is under way.
#[derive(Debug)]
enum Waited {
    Produce(Vec<Item>, i16),
    ProducerId(Key, i16),
}

/// The state of the task.
pub(super) struct Broker {
    pub(super) id: i32,
    /// Number that tells this task from the one before it at another address.
    pub(super) serial: u64,
    pub(super) address: String,
    pub(super) connector: Arc<Connector>,
    pub(super) health: Arc<SourceHealth>,
    pub(super) commands: UnboundedReceiver<Command>,
    pub(super) tell: UnboundedSender<Event>,
}

/// The reason why a connection is left.
enum Left {
    /// The command channel is closed.
    Ended,
    /// It was idle for long, or closed while it was idle.
    Idle,
    /// The connection is lost, with the requests on it.
    Lost(RequestError),
}

impl From<ConnectionError> for Left {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error.into())
    }
}

impl From<RequestError> for Left {
    fn from(error: RequestError) -> Self {
        Self::Lost(error)
    }
}

/// A connection with what is under way on it.
struct Serving {
    pipeline: Pipeline,
    versions: (i16, i16),
    waited: VecDeque<Waited>,
    /// Commands that were not given to the connection yet.
    held: VecDeque<Command>,
    /// The time before which nothing is sent: the client has used up its quota.
    throttled: Instant,
    used: Instant,
    /// True if it was reported that the broker stands still.
    is_slow: bool,
    is_left: bool,
}

impl Broker {
    /// Runs until the command channel closes.
    pub(super) async fn run(mut self) {
        while let Some(command) = self.commands.recv().await {
            let mut held = VecDeque::from([command]);
            while !held.is_empty() {
                let left = match self.connect().await {
                    Ok((connection, versions)) => {
                        let mut serving =
                            Serving::new(connection, versions, std::mem::take(&mut held));
                        let left = self.serve(&mut serving).await;
                        held = self.end(serving, &left);
                        left
                    }
                    Err(left) => left,
                };
                match left {
                    Left::Idle => {}
                    Left::Ended => return self.lose(held),
                    Left::Lost(error) => {
                        while let Ok(command) = self.commands.try_recv() {
                            held.push_back(command);
                        }
                        self.lose(std::mem::take(&mut held));
                        self.tell(Event::Failed { broker: self.id, error });
                    }
                }
            }
        }
    }

    fn tell(&self, event: Event) {
        // The receiver ends this task before it is dropped.
        let _ = self.tell.send(event);
    }

    async fn connect(&self) -> Result<(Connection, (i16, i16)), Left> {
        let connection = self.connector.connect(&self.address).await?;
        let produce = connection.needed_version(ApiKey::Produce, request::VERSIONS)?;
        let producer_id =
            connection.needed_version(ApiKey::InitProducerId, PRODUCER_ID_VERSIONS)?;
        debug!(broker = self.id, produce, "writing");
        self.tell(Event::Connected(self.id));
        Ok((connection, (produce, producer_id)))
    }

    async fn serve(&mut self, serving: &mut Serving) -> Left {
        loop {
            if let Err(left) = serving.send(&self.health).await {
                return left;
            }
            let wake = serving.wake();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => {
                        if serving.is_idle() && serving.used.elapsed() > IDLE {
                            serving.held.push_back(command);
                            return Left::Idle;
                        }
                        serving.take(command);
                    }
                    None => return Left::Ended,
                },
                answer = serving.pipeline.next() => match answer {
                    Ok(body) => if let Err(left) = self.answered(serving, body) {
                        return left;
                    },
                    Err(_) if serving.is_idle() => return Left::Idle,
                    Err(error) if serving.was_quiet() => {
                        debug!(%error, "an idle connection was closed");
                        return Left::Idle;
                    }
                    Err(error) => return error.into(),
                },
                // With nothing under way there is no deadline.
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
                    if let Some(left) = self.look_at_progress(serving) {
                        return left;
                    }
                }
            }
        }
    }

    fn look_at_progress(&self, serving: &mut Serving) -> Option<Left> {
        if serving.waited.is_empty() {
            return None;
        }
        let still = serving.pipeline.progress().elapsed();
        let limit = if serving.is_left { LEFT } else { STANDSTILL.1 };
        let (broker, api) = (self.address.clone(), ApiKey::Produce);
        let error = RequestError::Silent { broker, api };
        if still >= limit {
            return Some(Left::Lost(error));
        }
        if still >= STANDSTILL.0 && !std::mem::replace(&mut serving.is_slow, true) {
            self.tell(Event::Slow { broker: self.id, error });
        }
        None
    }

    fn answered(&self, serving: &mut Serving, mut body: Bytes) -> Result<(), Left> {
        let Some(waited) = serving.waited.pop_front() else { return Ok(()) };
        serving.used = Instant::now();
        serving.is_slow = false;
        let lost = |error| Left::Lost(RequestError::Answer { broker: self.address.clone(), error });
        let throttle = match waited {
            Waited::Produce(items, version) => {
                let response = match decode::<ProduceRequest>(&mut body, version) {
                    Ok(response) => response,
                    Err(error) => {
                        self.lose_items(items, true);
                        return Err(lost(error));
                    }
                };
                let answers = request::read(&response, &items, version);
                // The bytes are free before the answer is reported, to be used again.
                drop(items);
                self.tell(Event::Produced { broker: self.id, serial: self.serial, answers });
                response.throttle_time_ms
            }
            Waited::ProducerId(key, version) => {
                let response = match decode::<InitProducerIdRequest>(&mut body, version) {
                    Ok(response) => response,
                    Err(error) => {
                        self.tell(Event::ProducerId(key, Err(None)));
                        return Err(lost(error));
                    }
                };
                let id = ProducerId { id: response.producer_id.0, epoch: response.producer_epoch };
                let answer = match ResponseError::try_from_code(response.error_code) {
                    None => Ok(id),
                    Some(code) => Err(Some(code)),
                };
                self.tell(Event::ProducerId(key, answer));
                response.throttle_time_ms
            }
        };
        if let Ok(throttle @ 1..) = u64::try_from(throttle) {
            let pause = Duration::from_millis(throttle);
            serving.throttled = Instant::now() + pause;
            self.health.set_throttled(self.id, pause);
            debug!(broker = self.id, throttle, "throttled (ms)");
        }
        Ok(())
    }

    /// Reports all that was under way on a connection that it ended. Requests that can move to the
    /// next one are returned.
    fn end(&self, serving: Serving, left: &Left) -> VecDeque<Command> {
        let sent: Vec<bool> = serving.pipeline.sent().collect();
        let mut sent = sent.into_iter();
        for waited in serving.waited {
            // The one answered last has no place there any more.
            let was_sent = sent.next().unwrap_or(true);
            match waited {
                Waited::Produce(items, _) => self.lose_items(items, was_sent),
                Waited::ProducerId(key, _) => self.tell(Event::ProducerId(key, Err(None))),
            }
        }
        match left {
            Left::Idle => serving.held,
            Left::Ended | Left::Lost(_) => {
                self.lose(serving.held);
                VecDeque::new()
            }
        }
    }

    fn lose(&self, commands: VecDeque<Command>) {
        for command in commands {
            match command {
                Command::Produce(items) => self.lose_items(items, false),
                Command::ProducerId(key) => self.tell(Event::ProducerId(key, Err(None))),
                Command::Leave => {}
            }
        }
    }

    fn lose_items(&self, items: Vec<Item>, was_sent: bool) {
        let requests = items.iter().map(|item| (item.key, item.number)).collect();
        drop(items);
        let (broker, serial) = (self.id, self.serial);
        self.tell(Event::Lost { broker, serial, requests, was_sent });
    }
}

impl Serving {
    fn new(connection: Connection, versions: (i16, i16), held: VecDeque<Command>) -> Self {
        let now = Instant::now();
        Self {
            pipeline: Pipeline::new(connection),
            versions,
            waited: VecDeque::new(),
            held,
            throttled: now,
            used: now,
            is_slow: false,
            is_left: false,
        }
    }

    fn is_idle(&self) -> bool {
        self.waited.is_empty() && self.held.is_empty()
    }

    /// Returns true if the requests under way came after a time in which the connection may have
    /// been closed, and nothing was answered since.
    fn was_quiet(&self) -> bool {
        self.pipeline.progress().saturating_duration_since(self.used) >= QUIET
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Leave => self.is_left = true,
            command => {
                self.is_left = false;
                self.held.push_back(command);
            }
        }
    }

    /// Returns the time at which to look at it again, if nothing happens.
    fn wake(&self) -> Option<Instant> {
        let still = (!self.waited.is_empty()).then(|| {
            let limit = match (self.is_left, self.is_slow) {
                (true, _) => LEFT,
                (false, false) => STANDSTILL.0,
                (false, true) => STANDSTILL.1,
            };
            self.pipeline.progress() + limit
        });
        // Commands that wait for a session to be renewed are sent after an answer.
        let renews = self.pipeline.is_to_be_renewed() && !self.waited.is_empty();
        let throttled = (!self.held.is_empty() && !renews).then_some(self.throttled);
        [still, throttled].into_iter().flatten().min()
    }

    /// Gives the held commands to the connection, unless they have to wait.
    async fn send(&mut self, health: &SourceHealth) -> Result<(), Left> {
        if self.held.is_empty() || Instant::now() < self.throttled {
            return Ok(());
        }
        if self.pipeline.is_to_be_renewed() {
            if !self.waited.is_empty() {
                return Ok(());
            }
            health.set_renewals(self.pipeline.renew().await?);
        }
        while let Some(command) = self.held.pop_front() {
            let pushed = match command {
                Command::Produce(items) => {
                    let version = request::version(&items, self.versions.0);
                    let timeout = i32::try_from(REPLICATION.as_millis()).unwrap_or(i32::MAX);
                    let body = request::encode(&items, version, timeout);
                    self.waited.push_back(Waited::Produce(items, version));
                    self.pipeline.push_pieces::<ProduceRequest>(version, body)
                }
                Command::ProducerId(key) => {
                    let version = self.versions.1;
                    self.waited.push_back(Waited::ProducerId(key, version));
                    let request = InitProducerIdRequest::default()
                        .with_transactional_id(None)
                        .with_transaction_timeout_ms(i32::MAX);
                    self.pipeline.push(&request, version)
                }
                Command::Leave => Ok(()),
            };
            pushed?;
        }
        Ok(())
    }
}
