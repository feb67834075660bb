//! Records that are written, and faults.

use std::time::Duration;

use super::{Broken, Event, World};
use crate::batch::Kind;
use crate::cluster::Partition;

impl World {
    fn any_partition(&mut self) -> Partition {
        let keys: Vec<Partition> = self.cluster.logs.keys().cloned().collect();
        self.random.pick(&keys).clone()
    }

    /// Writes a batch, and goes on later.
    pub(super) fn write(&mut self) {
        if self.left_to_write == 0 {
            return;
        }
        let partition = self.any_partition();
        let count = self.random.within(1, 12).min(self.left_to_write);
        self.left_to_write -= count;
        let size = if self.random.percent(3) { 3000 } else { self.random.within(8, 120) } as usize;
        let Some(log) = self.cluster.logs.get(&partition) else { return };
        let open = log.open_producers();
        let kind = match self.random.below(10) {
            0 | 1 => {
                self.producers += 1;
                Kind::Transactional(self.producers)
            }
            2 | 3 if !open.is_empty() => Kind::Transactional(*self.random.pick(&open)),
            _ => Kind::Plain,
        };
        self.append(&partition, kind, count, size);
        if !open.is_empty() && self.random.percent(40) {
            let (producer, commits) = (*self.random.pick(&open), self.random.percent(60));
            self.end(&partition, producer, commits);
        }
        let pause = if self.random.percent(10) { 2000 } else { 120 };
        self.after(0, pause, Event::Write);
    }

    fn end(&mut self, partition: &Partition, producer: i64, commits: bool) {
        let commits = *self.ended.entry(producer).or_insert(commits);
        self.append(partition, Kind::End { producer, commits }, 0, 0);
    }

    fn append(&mut self, partition: &Partition, kind: Kind, count: u64, size: usize) {
        let Some(log) = self.cluster.logs.get_mut(partition) else { return };
        let mut judge = self.judge.borrow_mut();
        let first = log.end;
        let records = (first..first + count as i64)
            .map(|offset| judge.write(partition, log.branch, offset, size))
            .collect();
        log.write(kind, records);
        judge.see(log);
    }

    pub(super) fn trouble_later(&mut self) {
        let mean = self.settings.trouble_every.as_micros() as u64;
        let wait = self.random.within(mean / 10, 2 * mean);
        self.clock.after(Duration::from_micros(wait), Event::Trouble);
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self) {
        if self.is_mended {
            return;
        }
        let partition = self.any_partition();
        let brokers = self.settings.brokers as u64;
        let broker = self.random.below(brokers) as i32;
        let processes = self.processes();
        let process = *self.random.pick(&processes);
        match self.random.below(100) {
            0..12 => self.elect(&partition, broker),
            12..22 => self.truncate(&partition, broker),
            22..26 => self.recreate(&partition),
            26..32 => self.expire(&partition),
            32..38 => self.compact(&partition),
            38..50 => self.rebalance(&partition),
            50..53 => {
                self.tell(|| format!("{process:?} loses its place in the group"));
                self.lose(process);
            }
            53..56 => self.kill(process.0),
            56..63 => {
                self.tell(|| format!("{process:?} loses its connection to broker {broker}"));
                self.lose_connections(process, broker);
            }
            63..66 => {
                self.tell(|| format!("nothing of {partition:?} is to be had"));
                self.cluster.muted.insert(partition.clone());
                self.after(4000, 10_000, Event::MendOne(Broken::Muted(partition)));
            }
            66..70 => {
                self.tell(|| format!("broker {broker} is unreachable"));
                self.unreachable.insert(broker);
                for process in processes {
                    self.lose_connections(process, broker);
                }
                self.after(100, 3000, Event::MendOne(Broken::Broker(broker)));
            }
            70..73 => self.cluster.evict_session(),
            73..75 => {
                self.tell(|| format!("broker {broker} has another address"));
                *self.moves.entry(broker).or_default() += 1;
            }
            75 => self.panic_of_task(process, broker),
            76..78 => {
                self.group.is_loading = true;
                self.after(100, 4000, Event::MendOne(Broken::Coordinator));
            }
            78..88 => {
                let peers = self.peers_of(process);
                if !peers.is_empty() {
                    let peer = *self.random.pick(&peers);
                    self.tell(|| format!("{process:?} peer {peer} stalls"));
                    self.stall(process, peer);
                    self.after(50, 4000, Event::MendOne(Broken::Peer(process, peer)));
                }
            }
            _ => {
                let peers = self.peers_of(process);
                if !peers.is_empty() {
                    let peer = *self.random.pick(&peers);
                    let stalls = self.random.percent(40);
                    if stalls {
                        // Another one holds up the route meanwhile.
                        let other = *self.random.pick(&peers);
                        self.stall(process, other);
                        self.after(50, 1500, Event::MendOne(Broken::Peer(process, other)));
                    }
                    self.disconnect(process, peer);
                }
            }
        }
        self.trouble_later();
    }

    fn elect(&mut self, partition: &Partition, leader: i32) {
        if let Some(log) = self.cluster.logs.get_mut(partition) {
            log.elect(leader);
            self.tell(|| format!("{partition:?} is led by {leader}"));
        }
    }

    fn truncate(&mut self, partition: &Partition, leader: i32) {
        let Some(log) = self.cluster.logs.get_mut(partition) else { return };
        let back = self.random.below(40) as i64;
        log.truncate(log.end - back, leader);
        let end = log.end;
        let mut judge = self.judge.borrow_mut();
        judge.see(log);
        judge.was_rewritten = true;
        drop(judge);
        self.tell(|| format!("{partition:?} is truncated to {end}, led by {leader}"));
    }

    pub(super) fn recreate(&mut self, partition: &Partition) {
        if self.is_mended {
            return;
        }
        let id = self.topic_id();
        let leader = self.random.below(self.settings.brokers as u64) as i32;
        for (key, log) in &mut self.cluster.logs {
            if key.0 == partition.0 {
                log.recreate(id, leader);
                self.group.committed.remove(key);
            }
        }
        self.tell(|| format!("{} is recreated", partition.0));
    }

    fn expire(&mut self, partition: &Partition) {
        let Some(log) = self.cluster.logs.get_mut(partition) else { return };
        let before = log.start + self.random.below((log.end - log.start) as u64 + 1) as i64;
        log.expire(before);
        let start = log.start;
        self.tell(|| format!("{partition:?} begins at {start}"));
    }

    fn compact(&mut self, partition: &Partition) {
        let Some(log) = self.cluster.logs.get_mut(partition) else { return };
        let (part, keeps_empty) = (self.random.within(2, 5), self.random.percent(50));
        log.compact(|number| number.is_multiple_of(part), keeps_empty);
        self.judge.borrow_mut().was_rewritten = true;
        self.tell(|| format!("{partition:?} is compacted"));
    }

    /// The group moves partitions to other relays, or gives them back to the same one.
    fn rebalance(&mut self, partition: &Partition) {
        let Some(Some(owner)) = self.group.owners.get(partition).copied() else { return };
        let process = (owner, self.relays[owner].life);
        let moves_all = self.random.percent(20);
        let owned: Vec<Partition> = self
            .group
            .owners
            .iter()
            .filter(|(of, has)| **has == Some(owner) && (moves_all || *of == partition))
            .map(|(of, _)| of.clone())
            .filter(|of| !self.is_being_revoked(owner, of))
            .collect();
        if owned.is_empty() {
            return;
        }
        for partition in &owned {
            let next = self.random.below(self.relays.len() as u64) as usize;
            self.group.next.insert(partition.clone(), next);
        }
        self.tell(|| format!("{process:?} is to give {owned:?} back"));
        self.revoke(process, &owned);
    }

    /// A relay is killed, and another one takes its place.
    fn kill(&mut self, number: usize) {
        let process = (number, self.relays[number].life);
        self.tell(|| format!("{process:?} is killed"));
        for peer in self.peers_of(process) {
            self.peers.remove(&(process, peer));
            self.relays[number].net.borrow_mut().disconnect(peer);
        }
        self.start_relay(number, process.1 + 1);
        let owned: Vec<Partition> = self
            .group
            .owners
            .iter()
            .filter(|(_, owner)| **owner == Some(number))
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in owned {
            self.group.owners.insert(partition.clone(), None);
            self.after(200, 2000, Event::Give(partition));
        }
    }

    pub(super) fn mend_one(&mut self, broken: Broken) {
        match broken {
            Broken::Broker(broker) => drop(self.unreachable.remove(&broker)),
            Broken::Coordinator => self.group.is_loading = false,
            Broken::Muted(partition) => drop(self.cluster.muted.remove(&partition)),
            Broken::Peer(process, peer) => self.unstall(process, peer),
        }
    }

    /// Nothing goes wrong any more: transactions end, and stalled peers go on.
    pub(super) fn mend(&mut self) {
        self.tell(|| "mended".to_owned());
        self.is_mended = true;
        self.unreachable.clear();
        self.group.is_loading = false;
        self.cluster.muted.clear();
        self.left_to_write = self.left_to_write.min(20);
        while self.left_to_write > 0 {
            let partition = self.any_partition();
            let count = self.random.within(1, 12).min(self.left_to_write);
            self.left_to_write -= count;
            self.append(&partition, Kind::Plain, count, 20);
        }
        let keys: Vec<Partition> = self.cluster.logs.keys().cloned().collect();
        for partition in keys {
            for producer in self.cluster.logs[&partition].open_producers() {
                self.end(&partition, producer, true);
            }
        }
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for (process, peer) in peers {
            self.unstall(process, peer);
        }
        for process in self.processes() {
            self.wake_brokers(process);
            self.wake(process);
        }
    }
}
