//! The producers of a route that writes as its peers do: one for each identity, with connections,
//! producer ids and batches of its own.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use zafka_kafka::Cluster;
use zafka_kafka::produce::{
    News, OutboundRecord, PartitionIndex, Producer, ProducerConfig, Ticket, WriteError,
};
use zafka_sockets::Sender;

use super::writer::{Event, PeerEvent, Writer};
use crate::principals::{PeerLease, Principals};
use crate::zmq_to_kafka::identities::{EndReason, Entry, Identities, IdentityStep, SlotId};
use crate::zmq_to_kafka::topic_numbers::TopicNumbers;
use crate::zmq_to_kafka::wire::{Code, Failure};

/// Senders that are remembered before those that have left are forgotten.
const SENDERS: usize = 4096;

/// An identity at work.
#[derive(Debug)]
struct Open {
    producer: Producer,
    /// Tells it from those that had its number before.
    serial: u64,
    /// Keeps its token renewed. Ended with this.
    keeper: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// All identities of a route.
#[derive(Debug)]
pub(super) struct Peers {
    principals: Arc<dyn Principals>,
    cluster: Cluster,
    config: ProducerConfig,
    identities: Identities<PeerLease, OwnedSemaphorePermit>,
    open: Vec<Option<Open>>,
    serial: u64,
    numbers: TopicNumbers,
    /// The identity of each sender, by the number of its connection.
    senders: HashMap<u64, (SlotId, Weak<Sender>)>,
    ends: watch::Receiver<u64>,
    keepers: JoinSet<(SlotId, u64, String)>,
    /// Producers that are being closed.
    closing: JoinSet<()>,
    /// The producer that is asked first for news.
    turn: usize,
}

impl Peers {
    pub(super) fn new(
        principals: Arc<dyn Principals>,
        cluster: &Cluster,
        config: &ProducerConfig,
    ) -> Self {
        let ends = principals.ends();
        Self {
            principals,
            cluster: cluster.clone(),
            config: config.clone(),
            identities: Identities::new(),
            open: Vec::new(),
            serial: 0,
            numbers: TopicNumbers::default(),
            senders: HashMap::new(),
            ends,
            keepers: JoinSet::new(),
            closing: JoinSet::new(),
            turn: 0,
        }
    }

    /// The identity of a sender, which is opened if it is not there.
    ///
    /// # Errors
    /// It has none, or gets none now.
    pub(super) fn writer_of(&mut self, sender: &Arc<Sender>) -> Result<SlotId, Failure> {
        if let Some((slot, _)) = self.senders.get(&sender.id()) {
            return Ok(*slot);
        }
        let lease = sender.key().and_then(|key| self.principals.lease(&key));
        let Some(lease) = lease else {
            return Err(denied("records are written in their senders' names, and it has no token"));
        };
        let slot = match self.entry(&lease) {
            Entry::Open(slot) => slot,
            Entry::New(slot) => {
                self.begin(slot, &lease, sender)?;
                slot
            }
            Entry::Ended(reason) => return Err(denied(text(reason))),
            Entry::Full => {
                self.principals.count_refused();
                let reason = "records are written in as many names as may be (max_identities)";
                return Err(Failure::new(Code::Busy, reason));
            }
        };
        if self.senders.len() >= SENDERS {
            self.senders.retain(|_, (_, sender)| sender.strong_count() > 0);
        }
        self.senders.insert(sender.id(), (slot, Arc::downgrade(sender)));
        Ok(slot)
    }

    /// In whose name a message goes. If all places are taken, one that nobody needs is freed.
    fn entry(&mut self, lease: &PeerLease) -> Entry {
        loop {
            let principals = &self.principals;
            let entry = self.identities.handle_message(lease, || principals.place(), now());
            if entry != Entry::Full {
                return entry;
            }
            let is_there =
                |slot| self.senders.values().any(|(of, one)| *of == slot && one.strong_count() > 0);
            let Some(slot) = self.identities.make_room(is_there) else { return Entry::Full };
            self.close_one(slot);
        }
    }

    /// Opens an identity that has a place.
    fn begin(&mut self, slot: SlotId, lease: &PeerLease, sender: &Sender) -> Result<(), Failure> {
        let route = &self.config.route;
        let begun = self.cluster.principal(&lease.tokens).and_then(|principal| {
            let producer = Producer::start_fast(&principal.cluster(), &self.config)?;
            Ok((principal, producer))
        });
        let (principal, producer) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                // A file of the configuration that cannot be read any more.
                warn!(route, %error, "no records can be written in a peer's name");
                self.identities.handle_end(slot, EndReason::Refused, now());
                return Err(denied(REFUSED));
            }
        };
        self.serial += 1;
        let serial = self.serial;
        let keeper = self.keepers.spawn(async move { (slot, serial, principal.refused().await) });
        info!(route, peer = sender.address(), identity = serial, "records are written in its name");
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.open.get_mut(slot) {
            *place = Some(Open { producer, serial, keeper });
        }
        Ok(())
    }

    fn producer(&mut self, slot: SlotId) -> Option<&mut Producer> {
        self.open.get_mut(slot)?.as_mut().map(|open| &mut open.producer)
    }

    pub(super) fn locate(
        &mut self,
        slot: SlotId,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Option<PartitionIndex> {
        let index = self.producer(slot)?.locate(topic, partition, key)?;
        Some(self.numbers.outer(slot, index))
    }

    pub(super) fn send_to(
        &mut self,
        slot: SlotId,
        place: Option<PartitionIndex>,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        let index = place.and_then(|place| self.numbers.inner(place)).map(|(_, index)| index);
        let Some(producer) = self.producer(slot) else {
            return Err(WriteError::NotAllowed(LEASE_OVER.to_owned()));
        };
        producer.send_to(index, ticket, record)?;
        self.identities.handle_sent(slot, 1);
        Ok(())
    }

    pub(super) fn set_full(&mut self, place: PartitionIndex, is_full: bool) {
        if let Some((slot, index)) = self.numbers.inner(place)
            && let Some(producer) = self.producer(slot)
        {
            producer.set_full(index, is_full);
        }
    }

    pub(super) fn outer(&mut self, slot: SlotId, index: PartitionIndex) -> PartitionIndex {
        self.numbers.outer(slot, index)
    }

    pub(super) fn handle_settled(&mut self, slot: SlotId, records: usize) {
        self.identities.handle_settled(slot, records, now());
    }

    pub(super) fn flush(&mut self) {
        self.open.iter_mut().flatten().for_each(|open| open.producer.flush());
    }

    /// Handles what [`Self::next`] has told.
    pub(super) fn handle(&mut self, event: PeerEvent, at: Instant) {
        let now = at.into_std();
        let over = self.identities.leases().filter(|(_, lease)| lease.is_over());
        let over: Vec<_> = over.map(|(slot, _)| slot).collect();
        for slot in over {
            self.end(slot, EndReason::LeaseOver, now);
        }
        if let PeerEvent::Refused { slot, serial, reason } = event
            && self.open.get(slot).and_then(Option::as_ref).is_some_and(|one| one.serial == serial)
            && self.end(slot, EndReason::Refused, now)
        {
            let route = &self.config.route;
            warn!(route, identity = serial, reason, "a peer's token is not taken for Kafka");
        }
        while let Some(step) = self.identities.poll_step(now) {
            match step {
                IdentityStep::GiveUp(slot) => {
                    let error = WriteError::NotAllowed(LEASE_OVER.to_owned());
                    if let Some(producer) = self.producer(slot) {
                        producer.fail_all(&error);
                    }
                }
                IdentityStep::Close(slot) => self.close_one(slot),
            }
        }
        while self.closing.try_join_next().is_some() {}
    }

    /// An identity takes no more. Returns true if it did before.
    fn end(&mut self, slot: SlotId, reason: EndReason, now: std::time::Instant) -> bool {
        if !self.identities.handle_end(slot, reason, now) {
            return false;
        }
        self.senders.retain(|_, (of, _)| *of != slot);
        let error = WriteError::NotAllowed(text(reason).to_owned());
        if let Some(producer) = self.producer(slot) {
            producer.fail_unsent(&error);
        }
        true
    }

    fn close_one(&mut self, slot: SlotId) {
        self.senders.retain(|_, (of, _)| *of != slot);
        self.numbers.forget(slot);
        let Some(open) = self.open.get_mut(slot).and_then(Option::take) else { return };
        info!(route = self.config.route, identity = open.serial, "no more is written in its name");
        // The end of a producer may wait for threads.
        self.closing.spawn_blocking(move || drop(open));
    }

    /// Waits for the news of a producer, or until something is to be done. Can be dropped and
    /// called again.
    pub(super) async fn next(&mut self) -> Event {
        let due = self.identities.poll_timeout();
        let Self { open, ends, keepers, turn, .. } = self;
        tokio::select! {
            (slot, news) = news(open, turn) => Event::News(Writer::Peer(slot), news),
            event = refused(keepers) => Event::Peers(event),
            // The principals are kept here, so that they do not end.
            Ok(()) = ends.changed() => Event::Peers(PeerEvent::Look),
            () = sleep_until(due.unwrap_or_else(now).into()), if due.is_some() => {
                Event::Peers(PeerEvent::Look)
            }
        }
    }

    pub(super) async fn close(mut self) {
        for slot in 0..self.open.len() {
            self.close_one(slot);
        }
        while self.closing.join_next().await.is_some() {}
    }
}

/// Told to the sender of a message whose lease has ended.
const LEASE_OVER: &str = "its lease is over";
/// Told to the sender whose token is not exchanged, or not taken: the log says why.
const REFUSED: &str = "its token is not taken for Kafka";

fn text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::LeaseOver => LEASE_OVER,
        EndReason::Refused => REFUSED,
    }
}

fn denied(reason: &str) -> Failure {
    Failure::new(Code::NotAllowed, reason)
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Waits for the news of any producer. They take turns in being asked first.
async fn news(open: &mut [Option<Open>], turn: &mut usize) -> (SlotId, News) {
    type Next<'a> = Pin<Box<dyn Future<Output = News> + Send + 'a>>;
    let slots = open.iter_mut().enumerate();
    let open = slots.filter_map(|(slot, open)| Some((slot, &mut open.as_mut()?.producer)));
    let mut all: Vec<(SlotId, Next<'_>)> =
        open.map(|(slot, producer)| (slot, Box::pin(producer.next()) as Next<'_>)).collect();
    let first = *turn % all.len().max(1);
    *turn = turn.wrapping_add(1);
    all.rotate_left(first);
    poll_fn(move |context| {
        for (slot, next) in &mut all {
            if let Poll::Ready(news) = next.as_mut().poll(context) {
                return Poll::Ready((*slot, news));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until nobody takes the token of an identity any more.
async fn refused(keepers: &mut JoinSet<(SlotId, u64, String)>) -> PeerEvent {
    loop {
        match keepers.join_next().await {
            Some(Ok((slot, serial, reason))) => {
                return PeerEvent::Refused { slot, serial, reason };
            }
            // Its identity has ended. A panic is logged where it happens.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}
