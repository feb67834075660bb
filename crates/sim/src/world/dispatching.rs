//! The dispatcher of a relay: it is told what happens, asks who leads what, and commands tasks.

use std::collections::{BTreeMap, VecDeque};

use zafka_kafka::sim::{
    BrokerFetch, ClusterView, DispatchAction, Dispatching, PartitionView, TopicView,
};

use super::{Event, Process, World};
use crate::relay::{BrokerTask, partition_of};

impl World {
    /// Tells the dispatcher something, which it hears at its next turn.
    pub(super) fn tell_dispatcher(
        &mut self,
        process: Process,
        tell: impl FnOnce(&mut Dispatching),
    ) {
        let Some(relay) = self.relay(process) else { return };
        tell(&mut relay.dispatching);
        let at = self.soon(5_000);
        self.plan_dispatch(process, at);
    }

    fn plan_dispatch(&mut self, process: Process, at: std::time::Instant) {
        let Some(relay) = self.relay(process) else { return };
        if relay.planned_dispatch.is_none_or(|planned| at < planned) {
            relay.planned_dispatch = Some(at);
            self.clock.at_instant(at, Event::Dispatch(process));
        }
    }

    /// The dispatcher has its turn.
    pub(super) fn run_dispatcher(&mut self, process: Process) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        if relay.planned_dispatch.is_none_or(|planned| planned > now) {
            return;
        }
        relay.planned_dispatch = None;
        relay.dispatching.turn(now);
        while let Some(action) =
            self.relay(process).and_then(|relay| relay.dispatching.poll_action())
        {
            self.dispatch(process, action);
        }
        let next = self.relay(process).map(|relay| relay.dispatching.poll_timeout(now));
        if let Some(next) = next {
            // Something that is due now waits for metadata.
            self.plan_dispatch(process, next.max(now + std::time::Duration::from_millis(1)));
        }
    }

    fn dispatch(&mut self, process: Process, action: DispatchAction) {
        let Some(relay) = self.relay(process) else { return };
        match action {
            DispatchAction::StartBroker { broker, number } => {
                let task = BrokerTask {
                    broker,
                    fetch: BrokerFetch::new(),
                    commands: VecDeque::new(),
                    connection: 0,
                    is_connected: false,
                    is_asking: false,
                    is_due: false,
                    is_ending: false,
                    waits_since: None,
                };
                relay.brokers.insert(number, task);
            }
            DispatchAction::StopBroker { number } => {
                if let Some(task) = relay.brokers.get_mut(&number) {
                    task.is_ending = true;
                    self.fetch_soon(process, number, 0, 3);
                }
            }
            DispatchAction::Send { number, command } => {
                if let Some((assignment, generation, id)) = command.added()
                    && let Some(held) = relay.held.get_mut(&partition_of(assignment))
                {
                    held.ids.insert(generation, id);
                }
                if let Some(task) = relay.brokers.get_mut(&number) {
                    task.commands.push_back(command);
                    self.fetch_soon(process, number, 0, 3);
                }
            }
            DispatchAction::FetchMetadata { leave } => {
                let view = self.view(leave);
                self.after(1, 100, Event::Metadata(process, view));
            }
            DispatchAction::Fault(fault) => {
                let of = fault.out_of_range();
                self.tell(|| format!("{process:?} {fault:?}"));
                if let Some((topic, partition)) = of
                    && !self.is_mended
                    && self.settings.lookup_ms > 1000
                    && self.random.percent(60)
                {
                    // While the next offset is looked up.
                    self.after(0, 1000, Event::Recreate((topic, partition)));
                }
                if let Some(relay) = self.relay(process) {
                    relay.membership.fault(fault);
                }
                self.wake_membership(process);
            }
            DispatchAction::Report(reason) => self.tell(|| format!("{process:?} {reason}")),
        }
    }

    /// Metadata have come.
    pub(super) fn metadata(&mut self, process: Process, view: Option<ClusterView>) {
        self.tell_dispatcher(process, |dispatching| dispatching.handle_metadata(view));
    }

    /// Returns a server's word on the cluster, of which it may have lost touch. None if none
    /// answers.
    fn view(&mut self, leave: bool) -> Option<ClusterView> {
        if (0..self.settings.brokers).all(|broker| self.unreachable.contains(&broker)) {
            return None;
        }
        if !leave && !self.is_mended && self.random.percent(3) && self.stale.is_some() {
            return self.stale.clone();
        }
        let address = |broker: i32| {
            let moves = self.moves.get(&broker).copied().unwrap_or(0);
            (broker, format!("broker-{broker}-{moves}"))
        };
        let mut topics: BTreeMap<&str, TopicView> = BTreeMap::new();
        for ((name, partition), log) in &self.cluster.logs {
            let new = || TopicView { name: name.clone(), id: log.topic_id, partitions: Vec::new() };
            let topic = topics.entry(name).or_insert_with(new);
            let (leader, epoch) = (log.leader, log.epoch);
            topic.partitions.push(PartitionView { partition: *partition, leader, epoch });
        }
        let topics = topics.into_values().collect();
        let view =
            ClusterView { brokers: (0..self.settings.brokers).map(address).collect(), topics };
        if self.stale.is_none() || self.random.percent(10) {
            self.stale = Some(view.clone());
        }
        Some(view)
    }

    /// The task of a broker panics: what it had is fetched by another one.
    pub(super) fn panic_of_task(&mut self, process: Process, broker: i32) {
        let now = self.clock.instant();
        let Some(relay) = self.relay(process) else { return };
        let is_of = |task: &BrokerTask| task.broker == broker && !task.is_ending;
        let number = relay.brokers.iter().find(|(_, task)| is_of(task));
        let Some(number) = number.map(|(number, _)| *number) else { return };
        relay.brokers.remove(&number);
        relay.dispatching.panicked(number, now);
        self.tell(|| format!("{process:?} task {number} of broker {broker} panics"));
        self.tell_dispatcher(process, |_| ());
    }
}
