//! The task that fetches from one broker: it connects, asks, and hands out what it is given, on and
//! on. While a large answer is handed out the broker works on the next one.

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

use super::position::{Position, Why};
use super::share::{Answer, Broken, Given, LAST_BY_NAME, Share};
use super::sizes::Sizes;
use super::{Hold, Told, Wiring};
use crate::assignment::Assignment;
use crate::connection::{Connection, decode};
use crate::fetcher::{Fetched, Records};
use crate::generation::Due;
use crate::records::{Batches, Reading, Run};

/// Fetch versions: from the first that tells of a cut log, to the last whose fields we know.
pub(super) const VERSIONS: RangeInclusive<i16> = LAST_BY_NAME..=17;
/// From this many bytes on, the next request is sent before an answer is handed out.
const LARGE: usize = 64 << 10;
/// How long an answer may take before the broker counts as troubled, and before it is given up.
const ANSWER_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// The time in which an answer that has begun comes on by so many bytes. After one without, the
/// broker counts as troubled; after two the answer is given up, and with it the memory that others
/// may wait for.
const PROGRESS: (Duration, usize) =
    (Duration::from_millis(if cfg!(test) { 1000 } else { 5000 }), 16 << 10);
/// A connection that was used less recently than this is not used again. Brokers close idle ones
/// after ten minutes, some clouds' after four.
const IDLE: Duration = Duration::from_secs(180);
/// After so long without a request, the end of a connection is taken for that of an idle one: it is
/// made again without a word.
const QUIET: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 1000 });
/// A batch that failed its checks so often, fetched anew each time, will not pass them.
const CONFIRMED: u32 = 4;
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What the task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Fetch this.
    Add(Position),
    /// Fetch it no more, and give it back.
    Return(Arc<Assignment>),
    /// Fetch it no more.
    Drop(Arc<Assignment>),
    /// Connect, if nothing else is to be done, and tell whether that can be.
    Probe,
}

/// The task's own.
pub(super) struct Broker {
    pub(super) id: i32,
    pub(super) address: String,
    pub(super) wiring: Arc<Wiring>,
    pub(super) share: Share,
    pub(super) orders: UnboundedReceiver<Order>,
    pub(super) tell: UnboundedSender<Told>,
    /// Whether it is to connect though there is nothing to fetch.
    pub(super) probing: bool,
}

/// An answer, and its part of the memory that answers may take.
struct Frame {
    body: Bytes,
    hold: Hold,
}

/// Nobody gives orders any more, or nobody takes records.
struct Ended;

/// Why a connection is left.
enum Left {
    Ended,
    /// Nothing was asked for so long that the broker may have closed it.
    Idle,
    /// What happened to it.
    Lost(String),
}

impl Left {
    /// The same; an idle one, where its request failed at once and came after so long a time that
    /// the connection may have been closed.
    fn after_quiet(self, until: Instant) -> Self {
        match self {
            Self::Lost(reason) if Instant::now() < until => {
                debug!(reason, "an idle connection was closed");
                Self::Idle
            }
            left => left,
        }
    }
}

impl From<Ended> for Left {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl Broker {
    /// Runs until nobody gives orders any more, then gives back what it has.
    pub(super) async fn run(mut self) {
        self.fetch_on_and_on().await;
        for position in self.share.drain() {
            self.tell(Told::Returned(position, Why::Asked));
        }
    }

    async fn fetch_on_and_on(&mut self) {
        let mut backoff = BACKOFF.0;
        loop {
            while self.share.is_empty() && !self.probing {
                let Some(order) = self.orders.recv().await else { return };
                self.order(order);
            }
            let began = Instant::now();
            let reason = match self.connect().await {
                Err(Ended) => return,
                Ok(Err(reason)) => reason,
                Ok(Ok(connection)) => match self.fetch(connection).await {
                    Left::Ended => return,
                    Left::Idle => continue,
                    Left::Lost(reason) => reason,
                },
            };
            self.probing = false;
            self.wiring.reporter.report(&reason);
            self.failed(reason);
            if began.elapsed() > BACKOFF.1 {
                backoff = BACKOFF.0;
            }
            if self.rest_until(Instant::now() + backoff).await.is_err() {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    fn tell(&self, told: Told) {
        // Whoever listens ends this task first.
        let _ = self.tell.send(told);
    }

    fn failed(&self, reason: String) {
        // Where this task is to end, another one may fetch from the broker: what becomes of this
        // one says nothing of it.
        if !self.orders.is_closed() {
            self.tell(Told::Failed { broker: self.id, reason });
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Add(position) => self.share.insert(position),
            Order::Return(assignment) => {
                let position = self.share.remove(&assignment).or_else(|| {
                    // One that stands still at what cannot be read was let go: only the dispatcher
                    // has it.
                    let broken = assignment.broken_at().filter(|_| assignment.is_active())?;
                    Some(Position::new(Arc::clone(&assignment), assignment.generation(), broken))
                });
                if let Some(position) = position {
                    self.tell(Told::Returned(position, Why::Asked));
                }
            }
            Order::Drop(assignment) => drop(self.share.remove(&assignment)),
            Order::Probe => self.probing = true,
        }
    }

    /// Takes orders until `when`.
    async fn rest_until(&mut self, when: Instant) -> Result<(), Ended> {
        loop {
            tokio::select! {
                () = sleep_until(when.into()) => return Ok(()),
                order = self.orders.recv() => self.order(order.ok_or(Ended)?),
            }
        }
    }

    async fn connect(&mut self) -> Result<Result<Connection, String>, Ended> {
        let wiring = Arc::clone(&self.wiring);
        let address = self.address.clone();
        let connecting = wiring.connector.connect(&address);
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                connected = &mut connecting => return Ok(connected.map_err(|error| error.to_string())),
                order = self.orders.recv() => self.order(order.ok_or(Ended)?),
            }
        }
    }

    async fn fetch(&mut self, mut connection: Connection) -> Left {
        let Some(version) = connection.version(ApiKey::Fetch, VERSIONS) else {
            let reason = format!(
                "{}: too old for our own fetch requests (version 12 of Kafka 2.7)",
                self.address
            );
            self.tell(Told::TooOld(reason));
            // Nothing is left to do but to be ended.
            while self.orders.recv().await.is_some() {}
            return Left::Ended;
        };
        let sizes = Sizes::over(connection.round_trip());
        self.share.connected(sizes);
        debug!(route = self.wiring.reporter.route(), broker = self.id, version,
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
    ) -> Result<Infallible, Left> {
        let mut throttled = Instant::now();
        let mut asked = None;
        let mut last = Instant::now();
        let mut quiet_until = last;
        let mut connected = false;
        loop {
            if std::mem::take(&mut self.probing) {
                self.tell(Told::Connected(self.id));
            }
            loop {
                match self.orders.try_recv() {
                    Ok(order) => self.order(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Err(Left::Ended),
                }
            }
            let Some(version) = asked else {
                if Instant::now() < throttled {
                    self.rest_until(throttled).await?;
                }
                if last.elapsed() > IDLE {
                    return Err(Left::Idle);
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
            let Frame { mut body, hold } = frame.map_err(|left| left.after_quiet(quiet_until))?;
            last = Instant::now();
            quiet_until = last;
            let response = decode::<FetchRequest>(&mut body, version);
            let response = response.map_err(|error| self.lost(&error.to_string()))?;
            drop(body);
            if let Ok(throttle @ 1..) = u64::try_from(response.throttle_time_ms) {
                let pause = Duration::from_millis(throttle);
                throttled = Instant::now() + pause;
                self.wiring.board.set_held_back(self.id, pause);
                debug!(
                    route = self.wiring.reporter.route(),
                    broker = self.id,
                    throttle,
                    "throttled (ms)"
                );
            }
            let answer = self.share.answer(response, Instant::now());
            let Answer { given, left, errors, broken, bytes } =
                answer.map_err(|reason| self.lost(&reason))?;
            if !std::mem::replace(&mut connected, true) {
                self.tell(Told::Connected(self.id));
            }
            for error in errors {
                self.wiring.reporter.report(&error);
            }
            for broken in broken {
                self.broken(broken);
            }
            // The positions are past this answer already: whatever becomes of the next request, it
            // is handed out whole.
            let next = match bytes >= LARGE && Instant::now() >= throttled {
                true => self.ask(connection, newest).await,
                false => Ok(None),
            };
            let mut handed = false;
            for given in given {
                handed |= self.hand_out(given, &hold).await?;
            }
            drop(hold);
            for (position, why) in left {
                self.tell(Told::Returned(position, why));
            }
            asked = next?;
            if handed && asked.is_none() {
                // The route goes first: a lone record does not wait for our next request. It runs
                // in our place, on the same thread, so that no other one is woken.
                self.wiring.outlet.taken().await;
            }
        }
    }

    fn told(&self, reason: &str) -> String {
        format!("{}: {reason}", self.address)
    }

    fn lost(&self, reason: &str) -> Left {
        Left::Lost(self.told(reason))
    }

    /// Sends the next request, if there is anything to be asked; tells its version.
    async fn ask(&mut self, connection: &mut Connection, newest: i16) -> Result<Option<i16>, Left> {
        connection.renew().await.map_err(|error| Left::Lost(error.to_string()))?;
        let Some((request, version)) = self.share.request(newest, Instant::now()) else {
            return Ok(None);
        };
        connection.send(&request, version).await.map_err(|error| self.lost(&error.to_string()))?;
        Ok(Some(version))
    }

    /// Nothing is to be fetched: waits for an order, or for the end of a partition's rest.
    async fn wait_for_work(&mut self) -> Result<(), Ended> {
        let due = self.share.next_due();
        let rested = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                // Only an order changes that.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = rested => {}
            order = self.orders.recv() => self.order(order.ok_or(Ended)?),
        }
        Ok(())
    }

    /// Waits for the answer, then for room to hold it, then reads it.
    async fn receive(&mut self, connection: &mut Connection) -> Result<Frame, Left> {
        let since = Instant::now();
        let mut deadline = since + ANSWER_WAIT.0;
        let size = loop {
            tokio::select! {
                biased;
                size = connection.receive_size(self.wiring.limit) => {
                    break size.map_err(|error| self.lost(&error.to_string()))?;
                }
                order = self.orders.recv() => self.order(order.ok_or(Ended)?),
                () = sleep_until(deadline.into()) => {
                    let reason = self.told("no answer to a fetch");
                    if deadline > since + ANSWER_WAIT.0 {
                        return Err(Left::Lost(reason));
                    }
                    self.failed(reason);
                    deadline = since + ANSWER_WAIT.1;
                }
            }
        };
        if deadline > since + ANSWER_WAIT.0 {
            self.tell(Told::Connected(self.id));
        }
        let hold = self.hold(size).await?;
        let body = self.receive_body(connection).await?;
        Ok(Frame { body, hold })
    }

    /// Waits for the memory that an answer takes, for as long as the route lets the others wait.
    async fn hold(&mut self, size: usize) -> Result<Hold, Ended> {
        let wiring = Arc::clone(&self.wiring);
        let hold = wiring.budget.hold(size, &wiring.corrupt);
        tokio::pin!(hold);
        loop {
            tokio::select! {
                hold = &mut hold => return Ok(hold),
                order = self.orders.recv() => self.order(order.ok_or(Ended)?),
            }
        }
    }

    /// Reads an answer whose size is known.
    async fn receive_body(&mut self, connection: &mut Connection) -> Result<Bytes, Left> {
        let mut progress = (Instant::now(), connection.begun());
        let mut slow = false;
        let body = loop {
            tokio::select! {
                biased;
                body = connection.receive(self.wiring.limit) => {
                    break body.map_err(|error| self.lost(&error.to_string()))?;
                }
                order = self.orders.recv() => self.order(order.ok_or(Ended)?),
                () = sleep_until((progress.0 + PROGRESS.0).into()) => {
                    let begun = connection.begun();
                    let stopped = begun < progress.1 + PROGRESS.1;
                    let reason = self.told("an answer to a fetch stopped half way");
                    match (stopped, slow) {
                        (true, true) => return Err(Left::Lost(reason)),
                        (true, false) => self.failed(reason),
                        (false, true) => self.tell(Told::Connected(self.id)),
                        (false, false) => {}
                    }
                    slow = stopped;
                    progress = (Instant::now(), begun);
                }
            }
        };
        if slow {
            self.tell(Told::Connected(self.id));
        }
        Ok(body)
    }

    /// A batch cannot be read: for good, if that is so each time it is fetched.
    fn broken(&self, broken: Broken) {
        let Broken { due, to, error, failures } = broken;
        if failures < CONFIRMED {
            let place = format!("{}/{}", due.assignment.topic, due.assignment.partition);
            self.wiring.reporter.report(&format!("{place}: {error}"));
        } else {
            self.wiring.corrupt.met(due, to, &error.to_string());
        }
    }

    /// True where anything was handed out.
    async fn hand_out(&mut self, given: Given, hold: &Hold) -> Result<bool, Ended> {
        let Given { assignment, generation, from, records, aborted } = given;
        let wiring = Arc::clone(&self.wiring);
        // Without records it only tells where it stands.
        let mut standing = records.is_empty().then(|| Run::of_batches(Bytes::new(), from, from));
        let mut batches = Batches::new(records, Reading { from, aborted });
        let mut next = from;
        let mut handed = false;
        while assignment.is_wanted() && (standing.is_some() || !batches.is_over()) {
            // First the room: what is decompressed takes more memory than the answer does.
            let Some(room) = wiring.outlet.room().await else {
                info!(
                    route = wiring.reporter.route(),
                    broker = self.id,
                    "nobody takes records any more"
                );
                return Err(Ended);
            };
            let run = match standing.take().map_or_else(|| batches.next(), |run| Ok(Some(run))) {
                Ok(Some(run)) => run,
                Ok(None) => break,
                Err(error) => {
                    let end = assignment.ends().map_or(i64::MAX, |ends| ends.high_watermark);
                    let to = batches.after_failed(next, end);
                    let failures =
                        self.share.go_on_at(&assignment, generation.number, next, Instant::now());
                    let due = Due { assignment, generation: generation.number, offset: next };
                    self.broken(Broken { due, to, error, failures });
                    break;
                }
            };
            next = run.next_offset();
            let records = Records::Fast(run, Arc::clone(hold));
            let assignment = Arc::clone(&assignment);
            room.hand_out(Fetched { assignment, generation, next_offset: next, records });
            handed = true;
        }
        Ok(handed)
    }
}
