//! The health of a source, computed in one place from what each of its parts reports.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::statistics::Broker;

use crate::assignment::Assignment;
use crate::ends::Ends;
use crate::error::TopicFault;
use crate::failing_commits::{CommitError, FailingCommits};
use crate::quota::ThrottledBrokers;
use crate::topic_partition::TopicPartition;
use crate::wait::Wait;

/// Waits for the route that are shorter are not counted: it is at work.
const NOTICED: Duration = Duration::from_millis(1);
/// The share from which on waits are reported as those of a route that takes less than there is.
const MUCH: Duration = Duration::from_millis(100);

/// A source as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// The reason why not every partition due is held; `None` when it is ready. An empty assignment
    /// is ready.
    pub not_ready: Option<String>,
    /// The last error of a broker or of a connection, if there was one.
    pub last_error: Option<String>,
    /// The present fetcher: "fast" or "librdkafka"; `None` before the cluster is reached.
    pub fetcher: Option<&'static str>,
    /// Assignments and revocations by the group.
    pub rebalances: u64,
    /// Commits that the coordinator has.
    pub commits: u64,
    /// Commits that were given up, or tried again.
    pub commits_failed: u64,
    /// Errors of brokers and of the connections to them.
    pub kafka_errors: u64,
    /// Times that the log no longer had the offset due.
    pub offset_resets: u64,
    /// Records skipped by that.
    pub records_skipped: u64,
    /// The most renewals that the session of one connection has had (KIP-368).
    pub renewals: u64,
    /// Partitions that make no progress though there is something to read.
    pub partitions_stalled: usize,
    /// Waits that are no fault.
    pub waits: Vec<Wait>,
}

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Written by the threads of a source, and read by its status.
#[derive(Debug, Default)]
pub(crate) struct SourceHealth {
    pub(crate) commits: Counter,
    pub(crate) commits_failed: Counter,
    pub(crate) kafka_errors: Counter,
    /// The most renewals of one session.
    renewals: AtomicU64,
    /// Tasks that hold records which the route does not take.
    waiting: AtomicUsize,
    /// Time for which they waited since the last call that took it, in microseconds.
    waited: AtomicU64,
    /// The number of waits that ended, and that number at the last call that took it.
    waits: [AtomicU64; 2],
    state: Mutex<HealthState>,
    ends: Mutex<HashMap<String, HashMap<i32, Ends>>>,
    failing: Mutex<FailingCommits>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// True if librdkafka has a broker, or would have one as soon as it asks for something; `None`
    /// at first.
    connected: Option<bool>,
    /// True if it failed to connect to one since it last had one.
    failing: bool,
    last_error: Option<String>,
    stopped: Option<String>,
    membership: MembershipHealth,
    fetch: FetchHealth,
    /// Brokers that hold their answers back.
    throttled: ThrottledBrokers,
}

/// The progress in resolving the starts of the assigned partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AssignmentProgress {
    /// The assignment is not known yet, or is being looked up.
    #[default]
    Unknown,
    /// The start of some partition is not known, and why.
    Partial(String),
    Complete,
}

/// A partition that stands still at a batch that cannot be read, its offset, and the reason.
#[derive(Clone, Debug)]
pub(crate) struct CorruptPartition {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) offset: i64,
    pub(crate) reason: String,
}

impl CorruptPartition {
    /// Returns true if the partition is still assigned, and has not resumed since.
    pub(crate) fn is_current(&self) -> bool {
        self.assignment.is_active() && self.assignment.position() == self.offset
    }
}

/// The state that the membership thread owns.
#[derive(Clone, Debug, Default)]
pub(crate) struct MembershipHealth {
    /// The reason why the group does not have this member, if that is known.
    pub(crate) group_fault: Option<String>,
    /// Topics that are named and cannot be read, with the reason.
    pub(crate) missing: Vec<(String, TopicFault)>,
    pub(crate) assignment: AssignmentProgress,
    pub(crate) corrupt: Vec<CorruptPartition>,
    /// Partitions that make no progress, each with its offset.
    pub(crate) stalled: Vec<String>,
    /// The fetcher: "fast" or "librdkafka".
    pub(crate) fetcher: Option<&'static str>,
    /// The number of times that our own fetcher was given partitions, if it fetches.
    pub(crate) adds: Option<u64>,
    pub(crate) rebalances: u64,
    pub(crate) offset_resets: u64,
    pub(crate) records_skipped: u64,
}

/// The state that our own fetcher's dispatcher owns.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchHealth {
    /// The number of times that it was given partitions that are placed by now.
    pub(crate) adds: u64,
    /// The reason why partitions are not fetched now, if any are not.
    pub(crate) unfetched: Option<String>,
    /// True if a broker answers, and no other connection reports.
    pub(crate) is_connected: bool,
}

/// Records are held that the route does not take, until this is dropped.
pub(crate) struct RouteBusy<'a> {
    health: &'a SourceHealth,
    since: Instant,
}

impl Drop for RouteBusy<'_> {
    fn drop(&mut self) {
        self.health.end_wait(self.since.elapsed());
    }
}

impl SourceHealth {
    /// Takes whether librdkafka has a broker now.
    pub(crate) fn set_connected(&self, connected: bool) {
        let mut state = self.state.lock();
        state.failing &= !connected;
        // Brokers and load balancers close connections that are idle. That is no fault until it
        // cannot connect again, which it tries once it has something to ask.
        if connected || state.failing || state.connected.is_none() {
            state.connected = Some(connected);
        }
    }

    /// A connection of librdkafka's could not be made, or failed.
    pub(crate) fn connection_failed(&self) {
        self.state.lock().failing = true;
    }

    /// The health of a client that is assigned nothing, such as a producer: only its connections
    /// count.
    pub(crate) fn without_assignment() -> Self {
        let health = Self::default();
        health.state.lock().membership.assignment = AssignmentProgress::Complete;
        health
    }

    pub(crate) fn set_membership(&self, membership: MembershipHealth) {
        self.state.lock().membership = membership;
    }

    pub(crate) fn set_fetch(&self, fetch: FetchHealth) {
        self.state.lock().fetch = fetch;
    }

    /// Returns true if a broker is connected, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().is_connected() == Some(true)
    }

    /// A connection's session was renewed so often.
    pub(crate) fn set_renewals(&self, renewals: u64) {
        self.renewals.fetch_max(renewals, Ordering::Relaxed);
    }

    pub(crate) fn set_error(&self, error: String) {
        self.state.lock().last_error = Some(error);
    }

    pub(crate) fn commit_failed(&self, assignment: &Arc<Assignment>, error: CommitError) {
        self.commits_failed.add(1);
        self.failing.lock().failed(assignment, error, Instant::now());
    }

    pub(crate) fn commit_done(&self, assignment: &Arc<Assignment>) {
        self.commits.add(1);
        self.failing.lock().done(assignment);
    }

    pub(crate) fn set_stopped(&self, reason: &str) {
        self.state.lock().stopped = Some(reason.to_owned());
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stopped.is_some()
    }

    /// A broker holds its answers back for this long from now on.
    pub(crate) fn set_throttled(&self, broker: i32, pause: Duration) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.state.lock().throttled.throttled(broker, pause, Instant::now(), now_ms);
    }

    /// Returns a guard to be held while records wait for the route to take them.
    pub(crate) fn route_busy(&self) -> RouteBusy<'_> {
        self.begin_wait();
        RouteBusy { health: self, since: Instant::now() }
    }

    /// Records wait for the route, until [`Self::end_wait`].
    pub(crate) fn begin_wait(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// The route has taken records that waited for so long.
    pub(crate) fn end_wait(&self, waited: Duration) {
        if waited >= NOTICED {
            let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            self.waited.fetch_add(micros, Ordering::Relaxed);
        }
        self.waits[0].fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns true if records had to wait for the route since the last call: not just in passing,
    /// which happens to every route that has something to do.
    pub(crate) fn was_backpressured(&self) -> bool {
        let [waits, before] = &self.waits;
        let now = waits.load(Ordering::Relaxed);
        let nothing_taken = before.swap(now, Ordering::Relaxed) == now;
        if zafka_planted::is("traffic-hides-a-stall") && !nothing_taken {
            return true;
        }
        let waited = Duration::from_micros(self.waited.swap(0, Ordering::Relaxed));
        waited >= MUCH || (nothing_taken && self.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Takes what librdkafka's statistics say of connections and of the ends of logs.
    pub(crate) fn update(&self, statistics: &Statistics) {
        // librdkafka's queue for what concerns no broker is one of them, and always up.
        let is_up = |broker: &Broker| broker.state == "UP" && broker.source != "internal";
        self.set_connected(statistics.brokers.values().any(is_up));
        for broker in statistics.brokers.values() {
            if let Some(held @ 1..) =
                broker.throttle.as_ref().and_then(|held| u64::try_from(held.max).ok())
            {
                self.set_throttled(broker.nodeid, Duration::from_millis(held));
            }
        }
        let mut ends = self.ends.lock();
        for (name, topic) in &statistics.topics {
            let known = topic.partitions.iter().filter_map(|(id, partition)| {
                let ends = Ends::new(partition.hi_offset, partition.ls_offset)?;
                (*id >= 0).then_some((*id, ends))
            });
            ends.entry(name.clone()).or_default().extend(known);
        }
        let names: BTreeSet<&String> = statistics.topics.keys().collect();
        ends.retain(|name, _| names.contains(name));
    }

    pub(crate) fn ends(&self, of: &TopicPartition) -> Option<Ends> {
        self.ends.lock().get(&*of.topic)?.get(&of.partition).copied()
    }

    pub(crate) fn status(&self) -> SourceStatus {
        let state = self.state.lock();
        SourceStatus {
            not_ready: state.not_ready().or_else(|| self.failing.lock().fault(Instant::now())),
            last_error: state.last_error.clone(),
            fetcher: state.membership.fetcher,
            rebalances: state.membership.rebalances,
            commits: self.commits.get(),
            commits_failed: self.commits_failed.get(),
            kafka_errors: self.kafka_errors.get(),
            renewals: self.renewals.load(Ordering::Relaxed),
            offset_resets: state.membership.offset_resets,
            records_skipped: state.membership.records_skipped,
            partitions_stalled: state.membership.stalled.len(),
            waits: state.throttled.waits(Instant::now()),
        }
    }
}

impl HealthState {
    fn is_connected(&self) -> Option<bool> {
        if self.fetch.is_connected { Some(true) } else { self.connected }
    }

    /// The one place that decides whether a source is ready, and which reason counts first.
    fn not_ready(&self) -> Option<String> {
        if let Some(reason) = &self.stopped {
            return Some(reason.clone());
        }
        let error =
            || self.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        match self.is_connected() {
            None => return Some(format!("no broker reached yet{}", error())),
            Some(false) => return Some(format!("no broker connected{}", error())),
            Some(true) => {}
        }
        let membership = &self.membership;
        if let Some(fault) = &membership.group_fault {
            return Some(fault.clone());
        }
        if let Some((topic, reason)) = membership.missing.first() {
            return Some(format!("topic \"{topic}\": {reason}"));
        }
        match &membership.assignment {
            AssignmentProgress::Unknown => {
                return Some(format!("waiting for partitions{}", error()));
            }
            AssignmentProgress::Partial(reason) => return Some(format!("waiting for {reason}")),
            AssignmentProgress::Complete => {}
        }
        if let Some(corrupt) = membership.corrupt.iter().find(|corrupt| corrupt.is_current()) {
            return Some(corrupt.reason.clone());
        }
        if membership.adds.is_some_and(|adds| self.fetch.adds < adds) {
            return Some("partitions are about to be fetched".to_owned());
        }
        self.fetch.unfetched.clone().or_else(|| membership.stalled.first().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests a single connection: each loss of it is the loss of all.
    #[test]
    fn an_idle_connection_that_is_closed_is_no_fault_until_it_cannot_be_made_again() {
        let health = SourceHealth::default();
        health.set_connected(false);
        assert!(!health.is_connected(), "there was none yet");
        health.set_connected(true);
        health.set_connected(false);
        assert!(health.is_connected(), "it was closed");
        health.connection_failed();
        assert!(health.is_connected(), "others may be there");
        health.set_connected(false);
        assert!(!health.is_connected());
        health.set_fetch(FetchHealth { is_connected: true, ..FetchHealth::default() });
        assert!(health.is_connected(), "our own are there");
        health.set_fetch(FetchHealth::default());
        health.set_connected(true);
        health.set_connected(false);
        assert!(health.is_connected(), "it was closed once more");
    }

    #[test]
    fn a_route_that_is_at_work_does_not_count_as_one_that_takes_nothing() {
        let health = SourceHealth::default();
        assert!(!health.was_backpressured());
        for _ in 0..10 {
            // As for each answer while there is traffic.
            drop(health.route_busy());
        }
        assert!(!health.was_backpressured());
        let waiting = health.route_busy();
        health.was_backpressured();
        assert!(health.was_backpressured(), "it still waits");
        drop(waiting);
        health.was_backpressured();
        assert!(!health.was_backpressured());
        for _ in 0..2 {
            health.route_busy().since -= MUCH / 2;
        }
        assert!(health.was_backpressured(), "often, for a while");
        assert!(!health.was_backpressured());
    }

    /// Each row makes one thing right; the reason before it is the one that counts first.
    #[test]
    fn the_gravest_reason_counts_first() {
        let topic_partition = TopicPartition::new("t", 0);
        let assignment = Assignment::new(topic_partition, 7, None);
        let corrupt = CorruptPartition {
            assignment: Arc::clone(&assignment),
            offset: 7,
            reason: "t/0: rotten".to_owned(),
        };
        let health = SourceHealth::default();
        let mut membership = MembershipHealth {
            group_fault: Some("group \"g\": full".to_owned()),
            missing: vec![("gone".to_owned(), TopicFault::Unknown)],
            corrupt: vec![corrupt],
            stalled: vec!["t/0 stalled at offset 7".to_owned()],
            adds: Some(2),
            ..MembershipHealth::default()
        };
        let mut fetch =
            FetchHealth { adds: 1, unfetched: Some("no leader".to_owned()), is_connected: false };
        type Step = fn(&SourceHealth, &mut MembershipHealth, &mut FetchHealth, &Arc<Assignment>);
        let steps: [(&str, Step); 11] = [
            ("no broker reached yet", |health, _, _, _| health.set_connected(true)),
            ("group \"g\": full", |_, membership, _, _| membership.group_fault = None),
            ("topic \"gone\": it does not exist", |_, membership, _, _| membership.missing.clear()),
            ("waiting for partitions", |_, membership, _, _| {
                membership.assignment = AssignmentProgress::Partial("t/0: busy".to_owned());
            }),
            ("waiting for t/0: busy", |_, membership, _, _| {
                membership.assignment = AssignmentProgress::Complete;
            }),
            ("t/0: rotten", |_, _, _, assignment| assignment.reading().set_position(0, 8)),
            ("partitions are about to be fetched", |_, _, fetch, _| fetch.adds = 2),
            ("no leader", |_, _, fetch, _| fetch.unfetched = None),
            ("t/0 stalled at offset 7", |_, membership, _, _| membership.stalled.clear()),
            ("", |health, _, _, _| health.set_stopped("the end")),
            ("the end", |_, _, _, _| {}),
        ];
        for (reason, step) in steps {
            health.set_membership(membership.clone());
            health.set_fetch(fetch.clone());
            assert_eq!(health.status().not_ready.unwrap_or_default(), reason);
            step(&health, &mut membership, &mut fetch, &assignment);
        }
    }
}
