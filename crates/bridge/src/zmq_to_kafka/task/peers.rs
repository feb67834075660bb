//! The producers of a route that writes as its peers do: one for each identity, with connections,
//! producer ids and batches of its own.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use zafka_kafka::Cluster;
use zafka_kafka::produce::{
    News, OutboundRecord, PartitionIndex, Producer, ProducerConfig, Ticket, WriteError,
};
use zafka_sockets::Sender;

use super::writer::{Event, PeerEvent, Writer};
use crate::identity_places::{IdentityPlace, IdentityPlaces};
use crate::principals::{PeerLease, Principals};
use crate::zmq_to_kafka::identities::{EndReason, Entry, Identities, IdentityStep, SlotId};
use crate::zmq_to_kafka::topic_numbers::TopicNumbers;
use crate::zmq_to_kafka::wire::{Code, Failure};

/// Producers that are being closed, beyond which no other identity is opened: each has connections.
const CLOSING: usize = 32;

/// The identity in whose name a sender writes, which that keeps. Its senders and the identity share
/// one, so that it is seen when the last of them has left.
#[derive(Debug)]
struct Attendance {
    slot: SlotId,
    serial: u64,
}

/// An identity at work.
#[derive(Debug)]
struct Open {
    producer: Producer,
    /// Tells it from those that had its number before.
    serial: u64,
    attendance: Arc<Attendance>,
    /// True once it takes no more.
    has_ended: bool,
    /// True if it was used since the last flush.
    is_touched: bool,
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
    places: Arc<IdentityPlaces>,
    /// Changes if another route wants a place.
    wants: watch::Receiver<()>,
    identities: Identities<PeerLease, IdentityPlace>,
    open: Vec<Option<Open>>,
    /// Identities that were used since the last flush.
    touched: Vec<SlotId>,
    serial: u64,
    numbers: TopicNumbers,
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
        let (ends, places) = (principals.ends(), principals.places());
        Self {
            principals,
            wants: places.wants(),
            places,
            cluster: cluster.clone(),
            config: config.clone(),
            identities: Identities::new(),
            open: Vec::new(),
            touched: Vec::new(),
            serial: 0,
            numbers: TopicNumbers::default(),
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
        if let Some(attendance) = sender.kept::<Attendance>()
            && let Some(open) = self.open(attendance.slot)
            && open.serial == attendance.serial
            && !open.has_ended
        {
            return Ok(attendance.slot);
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
                self.places.want();
                let reason = "records are written in as many names as may be (max_identities)";
                return Err(Failure::new(Code::Busy, reason));
            }
        };
        if let Some(open) = self.open(slot) {
            sender.keep(Arc::clone(&open.attendance) as _);
        }
        Ok(slot)
    }

    fn open(&self, slot: SlotId) -> Option<&Open> {
        self.open.get(slot)?.as_ref()
    }

    /// Returns the name in which a message goes. If all places are taken, one that nobody needs is
    /// freed: here, or, once [`IdentityPlaces::want`] was called, by another route.
    fn entry(&mut self, lease: &PeerLease) -> Entry {
        while self.closing.try_join_next().is_some() {}
        let may_open = self.closing.len() < CLOSING;
        let place = || may_open.then(|| self.places.take()).flatten();
        let entry = self.identities.handle_message(lease, place, now());
        if entry != Entry::Full || !may_open {
            return entry;
        }
        let Some(slot) = make_room(&mut self.identities, &self.open) else { return Entry::Full };
        self.close_one(slot);
        self.identities.handle_message(lease, || self.places.take(), now())
    }

    /// Gives up the places that other routes want and nobody needs here.
    fn give_up_places(&mut self) {
        let (mut given_up, identities, open) = (Vec::new(), &mut self.identities, &self.open);
        self.places.give_up(|| {
            let slot = make_room(identities, open);
            given_up.extend(slot);
            slot.is_some()
        });
        for slot in given_up {
            self.close_one(slot);
        }
    }

    /// Opens an identity that has a place.
    fn begin(&mut self, slot: SlotId, lease: &PeerLease, sender: &Sender) -> Result<(), Failure> {
        let route = &self.config.route;
        // Its files are read by who asks for its tokens: the route waits for no file system.
        let begun = self.cluster.principal_unseen(&lease.tokens).and_then(|principal| {
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
            let attendance = Arc::new(Attendance { slot, serial });
            let (has_ended, is_touched) = (false, false);
            *place = Some(Open { producer, serial, attendance, has_ended, is_touched, keeper });
        }
        Ok(())
    }

    /// The producer of an identity, which is to be flushed at the end of this turn.
    fn producer(&mut self, slot: SlotId) -> Option<&mut Producer> {
        let open = self.open.get_mut(slot)?.as_mut()?;
        if !std::mem::replace(&mut open.is_touched, true) {
            self.touched.push(slot);
        }
        Some(&mut open.producer)
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
        for slot in self.touched.drain(..) {
            if let Some(Some(open)) = self.open.get_mut(slot) {
                open.is_touched = false;
                open.producer.flush();
            }
        }
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
        self.give_up_places();
    }

    /// An identity takes no more. Returns true if it did before.
    fn end(&mut self, slot: SlotId, reason: EndReason, now: std::time::Instant) -> bool {
        if !self.identities.handle_end(slot, reason, now) {
            return false;
        }
        let error = WriteError::NotAllowed(text(reason).to_owned());
        if let Some(Some(open)) = self.open.get_mut(slot) {
            open.has_ended = true;
            open.producer.fail_unsent(&error);
        }
        true
    }

    fn close_one(&mut self, slot: SlotId) {
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
        let Self { open, ends, wants, keepers, closing, turn, .. } = self;
        tokio::select! {
            (slot, news) = news(open, turn) => Event::News(Writer::Peer(slot), news),
            event = refused(keepers) => Event::Peers(event),
            // The principals and the places are kept here, so that they do not end.
            Ok(()) = ends.changed() => Event::Peers(PeerEvent::Look),
            Ok(()) = wants.changed() => Event::Peers(PeerEvent::Look),
            Some(_) = closing.join_next() => Event::Peers(PeerEvent::Look),
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

/// Takes the place of the identity that was not used for the longest time, if nobody needs one.
fn make_room(
    identities: &mut Identities<PeerLease, IdentityPlace>,
    open: &[Option<Open>],
) -> Option<SlotId> {
    identities.make_room(|slot| {
        let open = open.get(slot).and_then(Option::as_ref);
        // One is the identity's own.
        open.is_some_and(|open| Arc::strong_count(&open.attendance) > 1)
    })
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
