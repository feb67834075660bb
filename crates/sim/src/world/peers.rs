//! Subscribers: they connect, subscribe, read, stall and leave.

use super::{Connected, Event, Process, World};

impl World {
    /// A subscriber connects, and subscribes a moment later.
    pub(super) fn connect(&mut self, process: Process, subscriber: usize) {
        let now = self.clock.instant();
        if self.is_mended && subscriber >= self.settings.steady {
            return;
        }
        self.connections += 1;
        let connection = self.connections;
        let Some(relay) = self.relay(process) else { return };
        let peer = {
            let mut net = relay.net.borrow_mut();
            net.set_now(now);
            net.connect(connection, subscriber)
        };
        self.peers.insert(
            (process, peer),
            Connected { subscriber, is_stalled: false, is_reading: false },
        );
        self.tell(|| format!("{process:?} peer {peer}: subscriber {subscriber} connects"));
        for prefix in self.prefixes(subscriber) {
            self.after(0, 100, Event::Subscribe { process, peer, prefix });
        }
    }

    /// Draws the prefixes that a subscriber subscribes to: a steady one everything.
    fn prefixes(&mut self, subscriber: usize) -> Vec<Vec<u8>> {
        if subscriber < self.settings.steady {
            return vec![Vec::new()];
        }
        if self.settings.min_peers > 0 {
            // It would count in the place of a steady one.
            return vec![b"other".to_vec()];
        }
        let of = [&b""[..], b"topic", b"topic0", b"topic1", b"other"];
        (0..self.random.within(1, 3)).map(|_| self.random.pick(&of).to_vec()).collect()
    }

    /// A subscription arrives.
    pub(super) fn subscribe(&mut self, process: Process, peer: u64, prefix: &[u8]) {
        let Some(relay) = self.relay(process) else { return };
        relay.net.borrow_mut().subscribe(peer, prefix);
        self.wake(process);
    }

    /// A subscriber reads some of what waits.
    pub(super) fn read(&mut self, process: Process, peer: u64) {
        let bytes = self.random.within(100, 4 * self.settings.pipe_bytes as u64) as usize;
        let Some(connected) = self.peers.get_mut(&(process, peer)) else { return };
        connected.is_reading = false;
        if connected.is_stalled {
            return;
        }
        let Some(relay) = self.relay(process) else { return };
        let more = relay.net.borrow_mut().read(peer, bytes);
        if more {
            self.read_later(process, peer);
        }
        self.wake(process);
    }

    fn read_later(&mut self, process: Process, peer: u64) {
        let Some(connected) = self.peers.get_mut(&(process, peer)) else { return };
        if !connected.is_stalled && !std::mem::replace(&mut connected.is_reading, true) {
            self.after(0, 15, Event::Read { process, peer });
        }
    }

    /// Has all subscribers of a relay read that have something to read.
    pub(super) fn readers(&mut self, process: Process) {
        let Some(relay) = self.relay(process) else { return };
        let waiting = relay.net.borrow().with_unread();
        for peer in waiting {
            self.read_later(process, peer);
        }
    }

    /// A subscriber reads nothing for a while.
    pub(super) fn stall(&mut self, process: Process, peer: u64) {
        if let Some(connected) = self.peers.get_mut(&(process, peer)) {
            connected.is_stalled = true;
        }
    }

    /// A subscriber reads again.
    pub(super) fn unstall(&mut self, process: Process, peer: u64) {
        if let Some(connected) = self.peers.get_mut(&(process, peer)) {
            connected.is_stalled = false;
            self.read_later(process, peer);
        }
    }

    /// A subscriber's connection ends; it connects again a while later.
    pub(super) fn disconnect(&mut self, process: Process, peer: u64) {
        let Some(connected) = self.peers.remove(&(process, peer)) else { return };
        if let Some(relay) = self.relay(process) {
            relay.net.borrow_mut().disconnect(peer);
        }
        self.tell(|| format!("{process:?} peer {peer} disconnects"));
        self.wake(process);
        let longest = if self.random.percent(60) { 80 } else { 2000 };
        self.after(5, longest, Event::Connect(process, connected.subscriber));
    }

    /// The connections of a relay.
    pub(super) fn peers_of(&self, process: Process) -> Vec<u64> {
        self.peers.keys().filter(|(of, _)| *of == process).map(|(_, peer)| *peer).collect()
    }
}
