//! The way of records to a relay: the tasks of brokers, and the dispatcher that sends partitions to
//! them.

use std::time::Duration;

use kafka_protocol::messages::FetchResponse;
use zafka_kafka::sim::{BrokerFetch, Position, Returned};

use super::{Event, Process, Why, World};
use crate::cluster::{Asked, Partition};
use crate::relay::{BrokerTask, Place, RECORDS, partition_of};

/// Longest time that a broker waits for records.
const MAX_WAIT: Duration = Duration::from_millis(500);

impl World {
    /// Has the tasks of all brokers have a turn.
    pub(super) fn wake_brokers(&mut self, process: Process) {
        let brokers: Vec<i32> = self
            .relay(process)
            .map(|relay| relay.brokers.keys().copied().collect())
            .unwrap_or_default();
        for broker in brokers {
            self.fetch_soon(process, broker, 0, 0);
        }
    }

    fn fetch_soon(&mut self, process: Process, broker: i32, from: u64, to: u64) {
        let Some(task) = self.relay(process).and_then(|relay| relay.brokers.get_mut(&broker))
        else {
            return;
        };
        if !std::mem::replace(&mut task.is_due, true) {
            self.after(from, to, Event::Fetch(process, broker));
        }
    }

    /// A broker's task: what came is handed out, then the next request goes out.
    pub(super) fn fetch(&mut self, process: Process, broker: i32) {
        let (now, version) = (self.clock.instant(), self.settings.fetch_version);
        let is_reachable = !self.unreachable.contains(&broker);
        let Some(relay) = self.relay(process) else { return };
        let Some(task) = relay.brokers.get_mut(&broker) else { return };
        task.is_due = false;
        let mut handed = false;
        while relay.records.len() < RECORDS
            && let Some(fetched) = task.fetch.hand_out(now)
        {
            relay.records.push_back(fetched);
            handed = true;
        }
        let is_waiting = task.fetch.is_handing_out();
        if handed {
            self.wake(process);
        }
        if is_waiting {
            // Until the route takes some.
            return;
        }
        let Some(task) = self.relay(process).and_then(|relay| relay.brokers.get_mut(&broker))
        else {
            return;
        };
        for (position, why) in task.fetch.take_returned() {
            self.returned(process, broker, position, why);
        }
        let Some(task) = self.relay(process).and_then(|relay| relay.brokers.get_mut(&broker))
        else {
            return;
        };
        if !task.is_connected {
            if !is_reachable {
                return self.fetch_soon(process, broker, 100, 200);
            }
            task.is_connected = true;
            task.connection += 1;
            task.fetch.connected();
        }
        if task.is_asking {
            return;
        }
        if !self.ask(process, broker, version) {
            let due =
                self.relay(process).and_then(|relay| relay.brokers.get(&broker)?.fetch.next_due());
            if let Some(due) = due {
                let wait = due.saturating_duration_since(now).as_millis() as u64 + 1;
                self.fetch_soon(process, broker, wait, wait);
            }
        }
    }

    /// Sends the next request, if there is anything to be asked.
    fn ask(&mut self, process: Process, broker: i32, version: i16) -> bool {
        let now = self.clock.instant();
        let Some(relay) = self.relays.get_mut(process.0).filter(|relay| relay.life == process.1)
        else {
            return false;
        };
        let Some(task) = relay.brokers.get_mut(&broker) else { return false };
        let Some((request, version)) = task.fetch.request(version, now) else { return false };
        task.is_asking = true;
        let connection = task.connection;
        let asked = self.cluster.ask(broker, &request, version);
        let since = self.clock.now();
        self.after(0, 3, Event::Serve { process, broker, connection, asked, since });
        true
    }

    /// A broker answers once it has something to tell, or after a while.
    pub(super) fn serve(
        &mut self,
        process: Process,
        broker: i32,
        connection: u64,
        asked: Asked,
        since: Duration,
    ) {
        if self.unreachable.contains(&broker) {
            return;
        }
        let is_late = self.clock.now() >= since + MAX_WAIT;
        match self.cluster.answer(&asked, is_late) {
            Some(response) => {
                self.after(0, 3, Event::Answer { process, broker, connection, response });
            }
            None => self.after(5, 40, Event::Serve { process, broker, connection, asked, since }),
        }
    }

    /// An answer has come.
    pub(super) fn answer(
        &mut self,
        process: Process,
        broker: i32,
        connection: u64,
        response: FetchResponse,
    ) {
        let (now, version) = (self.clock.instant(), self.settings.fetch_version);
        // A large one is handed out after the next request has gone out.
        let asks_first = self.random.percent(40);
        let fails = self.random.percent(if self.is_mended { 0 } else { 5 });
        let Some(task) = self.relay(process).and_then(|relay| relay.brokers.get_mut(&broker))
        else {
            return;
        };
        if !task.is_connected || task.connection != connection {
            return;
        }
        task.is_asking = false;
        if let Err(reason) = task.fetch.answer(response, now) {
            self.tell(|| format!("{process:?} broker {broker}: {reason}"));
            return self.lose_connection(process, broker);
        }
        if asks_first {
            let failed = fails && self.ask(process, broker, version);
            if failed {
                self.lose_connection(process, broker);
            } else if !fails {
                self.ask(process, broker, version);
            }
            if let Some(task) = self.relay(process).and_then(|relay| relay.brokers.get_mut(&broker))
            {
                task.fetch.asked_next(!failed);
            }
        }
        self.fetch_soon(process, broker, 0, 0);
    }

    /// The connection to a broker breaks.
    pub(super) fn lose_connection(&mut self, process: Process, broker: i32) {
        let Some(task) = self.relay(process).and_then(|relay| relay.brokers.get_mut(&broker))
        else {
            return;
        };
        (task.is_connected, task.is_asking) = (false, false);
        task.connection += 1;
        self.fetch_soon(process, broker, 50, 200);
    }

    /// A partition came back from a broker's task.
    fn returned(&mut self, process: Process, broker: i32, position: Position, why: Returned) {
        let partition = partition_of(position.assignment());
        let generation = position.generation();
        self.tell(|| format!("{process:?} broker {broker} returns {partition:?}: {why:?}"));
        let is_anew = self.is_anew(process, &partition);
        let Some(held) = self.relay(process).and_then(|relay| relay.held.get_mut(&partition))
        else {
            return;
        };
        if !std::sync::Arc::ptr_eq(&held.assignment, position.assignment())
            || held.assignment.generation().number != generation
            || !matches!(held.place, Place::At(at) if at == broker)
        {
            return;
        }
        let (to, why) = match why {
            Returned::Requested | Returned::NotLeader if !is_anew => {
                held.place = Place::Waiting(position);
                return self.after(1, 100, Event::Place(process, partition));
            }
            _ if is_anew => (None, Why::Recreated),
            Returned::Diverged(to) => (Some(to), Why::Truncated),
            _ => (None, Why::OutOfRange),
        };
        held.place = Place::Parked;
        let reset = Event::Reset { process, partition, generation, to, why };
        self.after(1, 60, reset);
    }

    /// Returns true if the topic is another one than the partition is read of.
    fn is_anew(&self, process: Process, partition: &Partition) -> bool {
        let held = self.relays.get(process.0).and_then(|relay| relay.held.get(partition));
        let log = self.cluster.logs.get(partition);
        held.zip(log).is_some_and(|(held, log)| held.topic_id != log.topic_id)
    }

    /// Metadata come, now and then: what is read of a topic that is no more is noticed.
    pub(super) fn metadata(&mut self, process: Process) {
        let Some(relay) = self.relay(process) else { return };
        let at_brokers: Vec<Partition> = relay
            .held
            .iter()
            .filter(|(_, held)| matches!(held.place, Place::At(_)))
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in at_brokers {
            if !self.is_anew(process, &partition) {
                continue;
            }
            self.unfetch(process, &partition);
            let held = self.relay(process).and_then(|relay| relay.held.get(&partition));
            if let Some(generation) = held.map(|held| held.assignment.generation().number) {
                let (to, why) = (None, Why::Recreated);
                let reset = Event::Reset { process, partition, generation, to, why };
                self.after(1, 60, reset);
            }
        }
        self.after(500, 3000, Event::Metadata(process));
    }

    /// Sends a partition to the broker that leads it.
    pub(super) fn place(&mut self, process: Process, partition: &Partition) {
        let is_anew = self.is_anew(process, partition);
        let Some(log) = self.cluster.logs.get(partition) else { return };
        let (leader, epoch, topic_id) = (log.leader, log.epoch, log.topic_id);
        let Some(relay) = self.relays.get_mut(process.0).filter(|relay| relay.life == process.1)
        else {
            return;
        };
        let Some(held) = relay.held.get_mut(partition) else { return };
        let Place::Waiting(position) = &held.place else { return };
        if is_anew {
            let generation = position.generation();
            held.place = Place::Parked;
            let (to, why, partition) = (None, Why::Recreated, partition.clone());
            let reset = Event::Reset { process, partition, generation, to, why };
            return self.after(1, 60, reset);
        }
        let Place::Waiting(mut position) = std::mem::replace(&mut held.place, Place::At(leader))
        else {
            return;
        };
        position.set_leader(epoch, topic_id);
        let task = relay.brokers.entry(leader).or_insert_with(|| BrokerTask {
            fetch: BrokerFetch::new(),
            connection: 0,
            is_connected: false,
            is_asking: false,
            is_due: false,
        });
        task.fetch.add(position);
        self.fetch_soon(process, leader, 0, 0);
    }

    /// Begins a generation of a partition, wherever the one before it is fetched.
    pub(super) fn seek(&mut self, process: Process, position: Position) {
        let partition = partition_of(position.assignment());
        let Some(relay) = self.relay(process) else { return };
        let Some(held) = relay.held.get_mut(&partition) else { return };
        if let Place::At(broker) = held.place
            && let Some(task) = relay.brokers.get_mut(&broker)
        {
            task.fetch.remove(position.assignment());
        }
        held.place = Place::Waiting(position);
        self.after(0, 20, Event::Place(process, partition));
    }

    /// Fetches a partition no more.
    pub(super) fn unfetch(&mut self, process: Process, partition: &Partition) {
        let Some(relay) = self.relay(process) else { return };
        let Some(held) = relay.held.get_mut(partition) else { return };
        if let Place::At(broker) = held.place
            && let Some(task) = relay.brokers.get_mut(&broker)
        {
            task.fetch.remove(&held.assignment);
        }
        held.place = Place::Parked;
    }
}
