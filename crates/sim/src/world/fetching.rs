//! The tasks of brokers, by which records come to a relay.

use std::time::Duration;

use kafka_protocol::messages::FetchResponse;

use super::{Event, Process, World};
use crate::cluster::Asked;
use crate::relay::{BrokerTask, RECORDS};

/// Longest time that a broker waits for records.
const MAX_WAIT: Duration = Duration::from_millis(500);

impl World {
    /// Has the tasks of all brokers have a turn.
    pub(super) fn wake_brokers(&mut self, process: Process) {
        let tasks: Vec<u64> = self
            .relay(process)
            .map(|relay| relay.brokers.keys().copied().collect())
            .unwrap_or_default();
        for task in tasks {
            self.fetch_soon(process, task, 0, 0);
        }
    }

    fn task(&mut self, process: Process, task: u64) -> Option<&mut BrokerTask> {
        self.relay(process)?.brokers.get_mut(&task)
    }

    pub(super) fn fetch_soon(&mut self, process: Process, number: u64, from: u64, to: u64) {
        let Some(task) = self.task(process, number) else { return };
        if !std::mem::replace(&mut task.is_due, true) {
            self.after(from, to, Event::Fetch(process, number));
        }
    }

    /// A broker's task: what came is handed out, then the next request goes out.
    pub(super) fn fetch(&mut self, process: Process, number: u64) {
        let now = self.clock.instant();
        if !self.hand_out(process, number) {
            // Until the route takes some.
            return;
        }
        self.take_returned(process, number);
        let Some(task) = self.task(process, number) else { return };
        while let Some(command) = task.commands.pop_front() {
            task.fetch.handle(command);
        }
        if task.is_ending {
            return self.end_task(process, number);
        }
        let (broker, wants_connection) = (task.broker, task.fetch.wants_connection());
        self.take_returned(process, number);
        let is_reachable = !self.unreachable.contains(&broker);
        let Some(task) = self.task(process, number) else { return };
        if !wants_connection {
            return;
        }
        if !task.is_connected {
            if !is_reachable {
                self.tell_dispatcher(process, |dispatching| dispatching.failed(broker));
                return self.fetch_soon(process, number, 100, 200);
            }
            task.is_connected = true;
            task.connection += 1;
            task.fetch.connected();
            self.tell_dispatcher(process, |dispatching| dispatching.connected(broker));
        }
        if self.task(process, number).is_none_or(|task| task.is_asking) {
            return;
        }
        if !self.ask(process, number) {
            let due = self.task(process, number).and_then(|task| task.fetch.next_due());
            if let Some(due) = due {
                let wait = due.saturating_duration_since(now).as_millis() as u64 + 1;
                self.fetch_soon(process, number, wait, wait);
            }
        }
    }

    /// Hands out what came, as far as there is room. Returns whether that was all.
    fn hand_out(&mut self, process: Process, number: u64) -> bool {
        let (now, since) = (self.clock.instant(), self.clock.now());
        let Some(relay) = self.relay(process) else { return false };
        let Some(task) = relay.brokers.get_mut(&number) else { return false };
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
            // Those of the next one do not wait for those.
            let waited = task.waits_since.take().map_or(Duration::ZERO, |began| since - began);
            relay.waited += waited;
            relay.membership.begin_wait();
            relay.membership.end_wait(waited);
        }
        if is_waiting && task.waits_since.is_none() {
            task.waits_since = Some(since);
        }
        if handed {
            self.wake(process);
        }
        !is_waiting
    }

    /// A task that was to end gives back what it has.
    fn end_task(&mut self, process: Process, number: u64) {
        let task = self.relay(process).and_then(|relay| relay.brokers.remove(&number));
        for returned in task.map_or_else(Vec::new, |task| task.fetch.end()) {
            self.tell_dispatcher(process, |dispatching| dispatching.returned(returned));
        }
    }

    fn take_returned(&mut self, process: Process, number: u64) {
        let returned = self.task(process, number).map(|task| task.fetch.take_returned());
        for returned in returned.unwrap_or_default() {
            self.tell(|| format!("{process:?} task {number}: {returned:?}"));
            self.tell_dispatcher(process, |dispatching| dispatching.returned(returned));
        }
    }

    /// Sends the next request, if there is anything to be asked.
    fn ask(&mut self, process: Process, number: u64) -> bool {
        let (now, version) = (self.clock.instant(), self.settings.fetch_version);
        let Some(task) = self.task(process, number) else { return false };
        let Some((request, version)) = task.fetch.request(version, now) else { return false };
        task.is_asking = true;
        let (connection, broker) = (task.connection, task.broker);
        let asked = self.cluster.ask(broker, &request, version);
        let since = self.clock.now();
        self.after(0, 3, Event::Serve { process, task: number, connection, asked, since });
        true
    }

    /// A broker answers once it has something to tell, or after a while.
    pub(super) fn serve(
        &mut self,
        process: Process,
        number: u64,
        connection: u64,
        asked: Asked,
        since: Duration,
    ) {
        let Some(broker) = self.task(process, number).map(|task| task.broker) else { return };
        if self.unreachable.contains(&broker) {
            return;
        }
        let is_late = self.clock.now() >= since + MAX_WAIT;
        let task = number;
        match self.cluster.answer(&asked, is_late) {
            Some(response) => {
                self.after(0, 3, Event::Answer { process, task, connection, response });
            }
            None => self.after(5, 40, Event::Serve { process, task, connection, asked, since }),
        }
    }

    /// An answer has come.
    pub(super) fn answer(
        &mut self,
        process: Process,
        number: u64,
        connection: u64,
        response: FetchResponse,
    ) {
        let now = self.clock.instant();
        // A large one is handed out after the next request has gone out.
        let asks_first = self.random.percent(40);
        let fails = self.random.percent(if self.is_mended { 0 } else { 5 });
        let Some(task) = self.task(process, number) else { return };
        if !task.is_connected || task.connection != connection {
            return;
        }
        task.is_asking = false;
        if let Err(reason) = task.fetch.answer(response, now) {
            self.tell(|| format!("{process:?} task {number}: {reason}"));
            return self.lose_connection(process, number);
        }
        if asks_first {
            let failed = fails && self.ask(process, number);
            if failed {
                self.lose_connection(process, number);
            } else if !fails {
                self.ask(process, number);
            }
            if let Some(task) = self.task(process, number) {
                task.fetch.asked_next(!failed);
            }
        }
        self.fetch_soon(process, number, 0, 0);
    }

    /// The connection of a task breaks.
    pub(super) fn lose_connection(&mut self, process: Process, number: u64) {
        let Some(task) = self.task(process, number) else { return };
        (task.is_connected, task.is_asking) = (false, false);
        task.connection += 1;
        let broker = task.broker;
        self.tell_dispatcher(process, |dispatching| dispatching.failed(broker));
        self.fetch_soon(process, number, 50, 200);
    }

    /// The connections of a relay to a broker break.
    pub(super) fn lose_connections(&mut self, process: Process, broker: i32) {
        let Some(relay) = self.relay(process) else { return };
        let of_broker = relay.brokers.iter().filter(|(_, task)| task.broker == broker);
        let numbers: Vec<u64> = of_broker.map(|(number, _)| *number).collect();
        for number in numbers {
            self.lose_connection(process, number);
        }
    }
}
