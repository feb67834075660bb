//! The producers of a route's task: the relay's own, and on routes that write as their peers do one
//! for each identity.

use std::sync::Arc;

use tokio::time::Instant;
use zafka_kafka::produce::{OutboundRecord, PartitionIndex, Producer, Ticket, WriteError};
use zafka_sockets::Sender;

use super::peers::Peers;
use super::writer::{Event, PeerEvent, Writer};
use crate::zmq_to_kafka::wire::Failure;

/// All producers of a route. Partitions are numbered over all of them.
#[derive(Debug)]
pub(super) struct Writers {
    own: Producer,
    /// The peers' producers, on a route that writes as its peers do.
    peers: Option<Peers>,
}

impl Writers {
    pub(super) fn new(own: Producer, peers: Option<Peers>) -> Self {
        Self { own, peers }
    }

    /// The producer of what a sender sends.
    ///
    /// # Errors
    /// It may not write, or not now.
    #[inline]
    pub(super) fn writer_of(&mut self, sender: &Arc<Sender>) -> Result<Writer, Failure> {
        match &mut self.peers {
            None => Ok(Writer::Own),
            Some(peers) => peers.writer_of(sender).map(Writer::Peer),
        }
    }

    /// Locates as [`Producer::locate`] does.
    #[inline]
    pub(super) fn locate(
        &mut self,
        writer: Writer,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Option<PartitionIndex> {
        match (writer, &mut self.peers) {
            (Writer::Peer(slot), Some(peers)) => peers.locate(slot, topic, partition, key),
            _ => self.own.locate(topic, partition, key),
        }
    }

    /// Sends a record of the relay's own.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub(super) fn send_own(
        &mut self,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        self.own.send(ticket, record)
    }

    /// Sends as [`Producer::send_to`] does.
    ///
    /// # Errors
    /// As [`Producer::send_to`].
    // As there: a record that is handed on through memory is waited for.
    #[inline(always)]
    pub(super) fn send_to(
        &mut self,
        writer: Writer,
        place: Option<PartitionIndex>,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        match (writer, &mut self.peers) {
            (Writer::Peer(slot), Some(peers)) => peers.send_to(slot, place, ticket, record),
            _ => self.own.send_to(place, ticket, record),
        }
    }

    /// Sends as [`Producer::send_values`] does, by the relay's own producer.
    #[inline]
    pub(super) fn send_values<'a>(
        &mut self,
        place: PartitionIndex,
        first: Ticket,
        timestamp: i64,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        self.own.send_values(place, first, timestamp, next)
    }

    /// Does as [`Producer::set_full`].
    pub(super) fn set_full(&mut self, place: PartitionIndex, is_full: bool) {
        match &mut self.peers {
            Some(peers) => peers.set_full(place, is_full),
            None => self.own.set_full(place, is_full),
        }
    }

    /// A partition of a producer, as it is numbered among those of all.
    pub(super) fn outer(&mut self, writer: Writer, index: PartitionIndex) -> PartitionIndex {
        match (writer, &mut self.peers) {
            (Writer::Peer(slot), Some(peers)) => peers.outer(slot, index),
            _ => index,
        }
    }

    /// The outcome of so many records is known.
    pub(super) fn handle_settled(&mut self, writer: Writer, records: usize) {
        if let (Writer::Peer(slot), Some(peers)) = (writer, &mut self.peers) {
            peers.handle_settled(slot, records);
        }
    }

    /// Does what is to be done about identities.
    pub(super) fn handle_peers(&mut self, event: PeerEvent) {
        if let Some(peers) = &mut self.peers {
            peers.handle(event, Instant::now());
        }
    }

    /// Flushes all producers.
    pub(super) fn flush(&mut self) {
        self.own.flush();
        if let Some(peers) = &mut self.peers {
            peers.flush();
        }
    }

    /// Waits as [`Producer::next`] does, for all producers.
    pub(super) async fn next(&mut self) -> Event {
        let Some(peers) = &mut self.peers else {
            return Event::News(Writer::Own, self.own.next().await);
        };
        tokio::select! {
            news = self.own.next() => Event::News(Writer::Own, news),
            event = peers.next() => event,
        }
    }

    /// Closes all producers.
    pub(super) async fn close(self) {
        if let Some(peers) = self.peers {
            peers.close().await;
        }
        self.own.close().await;
    }
}
