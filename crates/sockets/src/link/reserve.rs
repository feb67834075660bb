//! Memory for input, taken before a peer is read: if other peers hold all of it, a sender is held
//! back, and its own high-water mark does its work. It is not closed, as what it has sent would be
//! lost.
//!
//! All memory may be held for messages that have come in part. One peer after the other is then
//! read beyond the limit until it holds nothing, so that the others get room: its overdraft. A peer
//! that stops within a message meanwhile, or does not finish it in time, is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::memory::{Charge, PeerMemory};

/// Longest time without progress of a message, while others wait for memory. (Short in tests, which
/// wait for it.)
const IDLE: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };
/// Longest time for such a message as a whole.
const WHOLE: Duration = Duration::from_secs(30);

/// The memory for input of one socket's peers.
#[derive(Debug)]
pub(crate) struct Reserves {
    memory: Arc<PeerMemory>,
    overdraft: Arc<Semaphore>,
}

impl Reserves {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { memory: PeerMemory::new(bytes), overdraft: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until there may be room for `bytes` more, or until it is this peer's turn to be read
    /// without: then returns the right to that. There is no deadline: a peer that others wait for
    /// has one.
    pub(super) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.memory.room(bytes) => None,
            permit = Arc::clone(&self.overdraft).acquire_owned() => permit.ok(),
        }
    }

    /// Memory that is held for a peer already, in another place until now.
    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        let mut charge = self.memory.empty();
        charge.set_beyond_limit(bytes);
        charge
    }

    /// Bytes that are held now.
    pub(crate) fn used(&self) -> usize {
        self.memory.used()
    }

    /// Returns true if no more is held than may be.
    pub(crate) fn is_within_limit(&self) -> bool {
        self.memory.is_within_limit()
    }
}

/// One peer's part of it.
#[derive(Debug)]
pub(super) struct Reserve {
    memory: Arc<PeerMemory>,
    charge: Charge,
    overdraft: Option<Overdraft>,
    /// True if the peer has something to be read, for which there was no memory.
    starved: bool,
}

/// A peer's right to be read beyond the limit.
#[derive(Debug)]
struct Overdraft {
    _permit: OwnedSemaphorePermit,
    /// True if the peer was read by it, so that it is over once there is room.
    is_used: bool,
    idle_until: Instant,
    whole_until: Instant,
}

impl Reserve {
    pub(super) fn new(reserves: &Reserves) -> Self {
        let memory = Arc::clone(&reserves.memory);
        Self { charge: memory.empty(), memory, overdraft: None, starved: false }
    }

    /// Returns true if the peer waits for [`Reserves::room`].
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Returns the memory that a read of `read` bytes may add to what is held: the bytes of an
    /// unfinished frame may take twice their size.
    pub(super) fn growth(&self, read: usize) -> usize {
        self.charge.bytes() + 2 * read
    }

    /// Takes memory for a read of `read` bytes. Returns whether there was some; otherwise the peer
    /// is starved.
    pub(super) fn prepare(&mut self, read: usize) -> bool {
        let bytes = self.charge.bytes() + self.growth(read);
        match &mut self.overdraft {
            Some(overdraft) => {
                overdraft.is_used = true;
                self.charge.set_beyond_limit(bytes);
            }
            None => self.starved = self.charge.set(bytes).is_err(),
        }
        !self.starved
    }

    /// Takes memory as [`Self::prepare`] does, for one more read in the same turn. Without memory
    /// for it, or beyond the limit, that read waits for the next turn.
    pub(super) fn prepare_more(&mut self, read: usize) -> bool {
        let bytes = self.charge.bytes() + self.growth(read);
        self.overdraft.is_none() && self.charge.set(bytes).is_ok()
    }

    /// Takes note that there may be room again, or that the peer may be read without.
    pub(super) fn handle_room(&mut self, permit: Option<OwnedSemaphorePermit>, now: Instant) {
        let overdraft = |permit| Overdraft {
            _permit: permit,
            is_used: false,
            idle_until: now + IDLE,
            whole_until: now + WHOLE,
        };
        (self.starved, self.overdraft) = (false, permit.map(overdraft));
    }

    /// The peer is not read for another reason: neither is it starved, nor does time count. If that
    /// may take long, one that holds `little` leaves its overdraft to others.
    pub(super) fn handle_held(&mut self, may_take_long: bool, little: usize, now: Instant) {
        self.starved = false;
        if may_take_long && self.charge.bytes() <= little {
            self.overdraft = None;
        }
        self.handle_message(now);
    }

    /// Something came.
    pub(super) fn handle_input(&mut self, now: Instant) {
        if let Some(overdraft) = &mut self.overdraft {
            overdraft.idle_until = now + IDLE;
        }
    }

    /// A message came whole: the next one has its time again.
    pub(super) fn handle_message(&mut self, now: Instant) {
        if let Some(overdraft) = &mut self.overdraft {
            (overdraft.idle_until, overdraft.whole_until) = (now + IDLE, now + WHOLE);
        }
    }

    /// Takes note of what is held after a read, which [`Reserve::prepare`] has taken memory for.
    pub(super) fn account(&mut self, bytes: usize) {
        if bytes != self.charge.bytes() {
            self.charge.set_beyond_limit(bytes);
        }
        let is_over = bytes == 0 || self.memory.is_within_limit();
        self.overdraft.take_if(|overdraft| overdraft.is_used && is_over);
    }

    /// Returns the time at which the peer is to have made room for others.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.overdraft.as_ref().map(|overdraft| overdraft.idle_until.min(overdraft.whole_until))
    }

    /// Returns true if it has not.
    pub(super) fn is_overdrawn(&self, now: Instant) -> bool {
        self.poll_timeout().is_some_and(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_gets_room_that_becomes_free_and_one_goes_on_without() {
        let reserves = Reserves::new(100);
        let now = Instant::now();
        let [mut one, mut other, mut third] = [(); 3].map(|()| Reserve::new(&reserves));
        assert!(one.prepare(45) && !other.prepare(10) && other.is_starved());
        one.account(90);
        let permit = reserves.room(other.growth(10)).await.expect("its turn");
        other.handle_room(Some(permit), now);
        assert!(!other.is_starved());
        other.account(0);
        assert!(other.prepare(10), "the overdraft was not used before");
        other.account(15);
        assert_eq!(reserves.memory.used(), 105);
        assert!(!third.prepare(1));
        let waiting = reserves.room(third.growth(1));
        tokio::pin!(waiting);
        let is_pending = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
        });
        assert!(is_pending.await, "the overdraft is taken, and so is all memory");
        one.account(0);
        third.handle_room(waiting.await, now);
        assert!(third.prepare(40) && !one.prepare(10));
        other.account(0);
        assert!(one.prepare(10), "the overdraft is over");
        drop((one, other, third));
        assert_eq!(reserves.memory.used(), 0);
    }

    #[tokio::test]
    async fn a_peer_with_an_overdraft_has_a_deadline() {
        let reserves = Reserves::new(10);
        let (mut greedy, start) = (Reserve::new(&reserves), Instant::now());
        assert_eq!(greedy.poll_timeout(), None);
        assert!(!greedy.prepare(100));
        greedy.handle_room(reserves.room(100).await, start);
        assert!(greedy.prepare(100));
        greedy.account(50);
        assert!(!greedy.is_overdrawn(start) && greedy.is_overdrawn(start + IDLE));
        let mut now = start;
        while now < start + WHOLE {
            assert!(!greedy.is_overdrawn(now));
            now += IDLE / 2;
            greedy.handle_input(now);
        }
        assert!(greedy.is_overdrawn(now), "it takes too long as a whole");
        greedy.handle_message(now);
        assert!(!greedy.is_overdrawn(now));
        greedy.account(5);
        assert_eq!(greedy.poll_timeout(), None, "there is room again");
    }

    #[tokio::test]
    async fn a_peer_on_hold_that_holds_little_leaves_its_overdraft_to_others() {
        let reserves = Reserves::new(10);
        let (mut held, now) = (Reserve::new(&reserves), Instant::now());
        held.handle_room(reserves.room(100).await, now);
        assert!(held.prepare(100));
        held.account(50);
        for (may_take_long, little, keeps) in
            [(false, 50, true), (true, 49, true), (true, 50, false)]
        {
            held.handle_held(may_take_long, little, now);
            assert_eq!(held.poll_timeout().is_some(), keeps, "{may_take_long} {little}");
        }
        assert!(reserves.room(100).await.is_some(), "another one's turn");
    }
}
