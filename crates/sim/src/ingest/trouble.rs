//! Faults of the cluster, of connections, of senders and of the relay.

use std::time::Duration;

use zafka_bridge::sim::{Ingest, Layout};
use zafka_kafka::sim::SimProducer;

use super::log::ReplicaLog;
use super::{IngestEvent, Ingesting, Outage};

impl Ingesting {
    pub(super) fn trouble_later(&mut self) {
        let mean = self.settings.trouble_every.as_micros() as u64;
        let wait = self.random.within(mean / 10, 2 * mean);
        self.clock.after(Duration::from_micros(wait), IngestEvent::Trouble);
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self) {
        if self.is_mended {
            return;
        }
        let names: Vec<String> = self.topics.keys().cloned().collect();
        let name = self.random.pick(&names).clone();
        let partitions = self.topics[&name].partitions.len() as u64;
        let index = self.random.below(partitions) as usize;
        let broker = self.random.below(self.settings.brokers as u64) as i32;
        match self.random.below(100) {
            0..16 => {
                let leader = self.random.percent(75).then_some(broker);
                self.elect(&name, index, leader);
                if leader.is_none() {
                    self.after(50, 3000, IngestEvent::MendOne(Outage::Log(name, index)));
                }
            }
            16..22 => self.lose(&name, index, broker),
            22..26 => self.delete(&name, 9000),
            26..30 => self.delete(&name, 500),
            30..42 => {
                let limits = [self.random.percent(40), self.random.percent(40)];
                let limit = match self.random.percent(40) {
                    true => 90 + self.random.below(300) as usize,
                    false => usize::MAX,
                };
                self.with_log(&name, index, |log| {
                    [log.few_replicas, log.slow_replicas] = limits;
                    log.limit = limit;
                });
                self.tell(|| format!("{name}/{index}: few, slow: {limits:?}, limit {limit}"));
                self.after(50, 4000, IngestEvent::MendOne(Outage::Log(name, index)));
            }
            42..48 => self.with_log(&name, index, ReplicaLog::replicate),
            48..54 => {
                self.tell(|| format!("broker {broker} restarts"));
                for topic in self.topics.values_mut() {
                    topic.partitions.iter_mut().for_each(|log| log.restart(broker));
                }
                self.break_all(Some(broker));
            }
            54..57 => {
                let Some(topic) = self.topics.get_mut(&name) else { return };
                topic.partitions[index].expire(&mut self.random);
                let start = topic.partitions[index].start;
                self.tell(|| format!("{name}/{index} begins at {start}"));
            }
            57 => {
                *self.moves.entry(broker).or_default() += 1;
                self.tell(|| format!("broker {broker} moves to another address"));
                self.break_all(Some(broker));
            }
            58..70 => {
                self.tell(|| format!("the connections to broker {broker} break"));
                self.break_all(Some(broker));
            }
            70..76 => {
                self.tell(|| format!("broker {broker} is unreachable"));
                self.unreachable.insert(broker);
                self.break_all(Some(broker));
                self.after(100, 3000, IngestEvent::MendOne(Outage::Broker(broker)));
            }
            76..82 => {
                let sender = self.random.below(self.settings.senders as u64) as usize;
                self.reconnect(sender);
            }
            82..97 => {}
            97 | 98 => self.end_relay(true),
            _ => self.end_relay(false),
        }
        self.see_logs();
        self.trouble_later();
    }

    fn with_log(&mut self, name: &str, index: usize, change: impl FnOnce(&mut ReplicaLog)) {
        let topic = self.topics.get_mut(name);
        if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(index)) {
            change(log);
        }
    }

    fn elect(&mut self, name: &str, index: usize, leader: Option<i32>) {
        let Some(topic) = self.topics.get_mut(name) else { return };
        topic.partitions[index].elect(leader, &mut self.random);
        self.tell(|| format!("{name}/{index} is led by {leader:?}"));
    }

    /// An unclean election, after the leader has died: what was acknowledged is lost.
    fn lose(&mut self, name: &str, index: usize, leader: i32) {
        self.see_logs();
        let before = self.topics.get(name).and_then(|topic| topic.partitions[index].leader);
        self.break_all(before);
        let Some(topic) = self.topics.get_mut(name) else { return };
        let Some(from) = topic.partitions[index].lose(leader, &mut self.random) else { return };
        self.judge.lost(&(name.to_owned(), index as i32), from);
        self.tell(|| format!("{name}/{index} loses what it has from {from} on, led by {leader}"));
    }

    fn forget(&mut self, name: &str) {
        self.see_logs();
        let partitions = self.topics[name].partitions.len() as i32;
        for partition in 0..partitions {
            self.judge.lost(&(name.to_owned(), partition), 0);
        }
    }

    /// A topic is deleted, and created again a while later.
    fn delete(&mut self, name: &str, longest: u64) {
        self.tell(|| format!("{name} is deleted"));
        self.forget(name);
        if let Some(topic) = self.topics.get_mut(name) {
            topic.is_absent = true;
        }
        self.after(200, longest, IngestEvent::MendOne(Outage::Topic(name.to_owned())));
    }

    /// A topic that was deleted is created again. Of requests by name that follow one another on a
    /// connection, one may find no topic and the next one the new one, whose log takes any first
    /// sequence. No producer can know, so this is not simulated.
    fn recreate(&mut self, name: &str) {
        self.tell(|| format!("{name} is created again"));
        if self.settings.produce_version < 13 {
            self.break_all(None);
        }
        self.forget(name);
        let id = self.topic_id();
        let brokers = self.settings.brokers as u64;
        let Some(topic) = self.topics.get_mut(name) else { return };
        (topic.id, topic.is_absent) = (id, false);
        for log in &mut topic.partitions {
            log.recreate(self.random.below(brokers) as i32);
        }
    }

    /// The relay ends: in order, so that its senders are told that it is not known what became of
    /// their messages; or by a kill. Another one takes its place.
    fn end_relay(&mut self, in_order: bool) {
        let now = self.clock.instant();
        self.tell(|| format!("the relay ends, in order: {in_order}"));
        if in_order {
            let told = self.ingest.abandon();
            if self.settings.layout == Layout::Unanswered {
                // They are counted; which of them are left is of interest to nobody.
                self.settled += told.len() as u64;
            } else {
                self.told(told);
            }
            self.check();
        }
        self.life += 1;
        self.break_all(None);
        let names: Vec<String> = self.topics.keys().cloned().collect();
        if let Some(ingest) =
            Ingest::new(self.settings.layout, &names, self.settings.in_flight_bytes)
        {
            self.ingest = ingest;
        }
        self.producer =
            SimProducer::new(&self.settings.producer, self.settings.producer_seed + self.life, now);
        (self.handed, self.settled, self.acknowledged, self.planned) = (0, 0, 0, None);
        self.received.clear();
        self.waiting.clear();
        for sender in 0..self.senders.len() {
            self.reconnect(sender);
        }
        self.turn_soon();
    }

    pub(super) fn mend_one(&mut self, broken: &Outage) {
        match broken {
            Outage::Broker(broker) => drop(self.unreachable.remove(broker)),
            Outage::Log(name, index) => self.mend_log(name, *index),
            Outage::Topic(name) => {
                if self.topics.get(name).is_some_and(|topic| topic.is_absent) {
                    self.recreate(name);
                }
            }
        }
    }

    fn mend_log(&mut self, name: &str, index: usize) {
        let leader = self.random.below(self.settings.brokers as u64) as i32;
        let Some(topic) = self.topics.get_mut(name) else { return };
        let log = &mut topic.partitions[index];
        (log.few_replicas, log.slow_replicas, log.limit) = (false, false, usize::MAX);
        if log.leader.is_none() {
            log.elect(Some(leader), &mut self.random);
        }
        self.see_logs();
    }

    /// Nothing goes wrong any more.
    pub(super) fn mend(&mut self) {
        self.tell(|| "mended".to_owned());
        self.is_mended = true;
        self.unreachable.clear();
        let names: Vec<String> = self.topics.keys().cloned().collect();
        for name in names {
            if self.topics[&name].is_absent {
                self.recreate(&name);
            }
            for index in 0..self.topics[&name].partitions.len() {
                self.mend_log(&name, index);
            }
        }
        self.turn_soon();
    }
}
