//! What a source shows of itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::statistics::Broker;

use crate::assignment::Assignment;
use crate::error::TopicFault;
use crate::failing_commits::FailingCommits;
use crate::quota::ThrottledBrokers;
use crate::topic_partition::TopicPartition;
use crate::wait::Wait;

/// Waits for the route that are shorter are not counted: it is at work.
const NOTICED: Duration = Duration::from_millis(1);
/// From this much on, waits tell that the route takes less than there is.
const MUCH: Duration = Duration::from_millis(100);

/// A source as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// Why not every partition due is held; `None` when it is ready. An empty assignment is ready.
    pub not_ready: Option<String>,
    /// The last error of a broker or of a connection, if there was one.
    pub last_error: Option<String>,
    /// What fetches now: "fast" or "librdkafka"; nothing before the cluster is reached.
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
    /// Partitions that make no progress though there is something to read.
    pub partitions_stalled: usize,
    /// What is waited for though nothing is wrong.
    pub waits: Vec<Wait>,
}

/// The ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The offset after the last record that is replicated.
    pub high_watermark: i64,
    /// Under `read_committed`, the offset that no record from there on is read before its
    /// transaction ends: that of the first record of the oldest open one, or else the high
    /// watermark.
    pub last_stable: Option<i64>,
}

impl Ends {
    /// As a broker tells them, which has -1 for what it does not tell.
    pub(crate) fn new(high_watermark: i64, last_stable: i64) -> Option<Self> {
        let last_stable = (last_stable >= 0).then_some(last_stable);
        let high_watermark = high_watermark.max(last_stable.unwrap_or(-1));
        (high_watermark >= 0).then_some(Self { high_watermark, last_stable })
    }

    /// The end as a reader sees it.
    pub fn readable(self) -> i64 {
        self.last_stable.unwrap_or(self.high_watermark)
    }

    /// The first offset of the oldest transaction that is open, if one is.
    pub fn open_transaction(self) -> Option<i64> {
        self.last_stable.filter(|stable| *stable < self.high_watermark)
    }
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

/// What the threads of a source write, and its status reads.
#[derive(Debug, Default)]
pub(crate) struct SourceHealth {
    pub(crate) rebalances: Counter,
    pub(crate) commits: Counter,
    pub(crate) commits_failed: Counter,
    pub(crate) kafka_errors: Counter,
    pub(crate) offset_resets: Counter,
    pub(crate) records_skipped: Counter,
    /// Tasks that hold records which nobody takes.
    waiting: AtomicUsize,
    /// How long they did since somebody asked, in microseconds.
    waited: AtomicU64,
    /// How many times one did to the end; and as it was when somebody asked.
    waits: [AtomicU64; 2],
    state: Mutex<HealthState>,
    ends: Mutex<HashMap<String, HashMap<i32, Ends>>>,
    failing: Mutex<FailingCommits>,
}

#[derive(Debug, Default)]
struct HealthState {
    /// Whether librdkafka has a broker, or would have one as soon as it asks for something; not
    /// known at first.
    connected: Option<bool>,
    /// Whether it failed to connect to one since it last had one.
    failing: bool,
    /// Whether the fetcher of a route without a group has a broker.
    fetching: bool,
    last_error: Option<String>,
    assignment_progress: AssignmentProgress,
    /// Why the group does not have this member, where that is known.
    group_fault: Option<String>,
    /// Topics that were named and cannot be read, with the reason.
    missing: Vec<(String, TopicFault)>,
    stopped: Option<String>,
    fetcher: Option<&'static str>,
    /// Why partitions are not fetched now, if any are not.
    unfetched: Option<String>,
    /// Partitions that stand still, and how.
    stalled: Vec<String>,
    /// Partitions that stand still at what cannot be read, where, and the reason.
    corrupt: Vec<(Arc<Assignment>, i64, String)>,
    /// Brokers that hold their answers back.
    throttled: ThrottledBrokers,
}

/// How far the starts of the assigned partitions are resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AssignmentProgress {
    /// It is not known yet, or is being looked up.
    #[default]
    Unknown,
    /// Where some of it begins is not known, and why.
    Partial(String),
    Complete,
}

/// Records are held that nobody takes, until this is dropped.
pub(crate) struct RouteBusy<'a> {
    health: &'a SourceHealth,
    since: Instant,
}

impl Drop for RouteBusy<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if waited >= NOTICED {
            let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            self.health.waited.fetch_add(micros, Ordering::Relaxed);
        }
        self.health.waits[0].fetch_add(1, Ordering::Relaxed);
        self.health.waiting.fetch_sub(1, Ordering::Relaxed);
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

    /// A connection of librdkafka's could not be made, or was of no use.
    pub(crate) fn connection_failed(&self) {
        self.state.lock().failing = true;
    }

    /// Whether the fetcher of a route without a group has a broker. In a group the membership is
    /// what counts.
    pub(crate) fn set_fetching(&self, fetching: bool) {
        self.state.lock().fetching = fetching;
    }

    /// Whether a broker is connected, as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.state.lock().is_connected() == Some(true)
    }

    pub(crate) fn set_error(&self, error: String) {
        self.state.lock().last_error = Some(error);
    }

    /// Sets why the group does not have this member. Gives whether that is news.
    pub(crate) fn set_group_fault(&self, fault: Option<String>) -> bool {
        let known = std::mem::replace(&mut self.state.lock().group_fault, fault.clone());
        fault.is_some() && known != fault
    }

    pub(crate) fn commit_failed(&self, assignment: &Arc<Assignment>, reason: String) {
        self.commits_failed.add(1);
        self.failing.lock().failed(assignment, reason, Instant::now());
    }

    pub(crate) fn commit_done(&self, assignment: &Arc<Assignment>) {
        self.commits.add(1);
        self.failing.lock().done(assignment);
    }

    pub(crate) fn set_assignment(&self, assignment_progress: AssignmentProgress) {
        self.state.lock().assignment_progress = assignment_progress;
    }

    /// Gives those that are news.
    pub(crate) fn set_missing(
        &self,
        missing: Vec<(String, TopicFault)>,
    ) -> Vec<(String, TopicFault)> {
        let known = std::mem::replace(&mut self.state.lock().missing, missing.clone());
        missing.into_iter().filter(|fault| !known.contains(fault)).collect()
    }

    pub(crate) fn set_stopped(&self, reason: &str) {
        self.state.lock().stopped = Some(reason.to_owned());
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stopped.is_some()
    }

    pub(crate) fn set_fetcher(&self, fetcher: &'static str) {
        self.state.lock().fetcher = Some(fetcher);
    }

    pub(crate) fn set_unfetched(&self, reason: Option<String>) {
        self.state.lock().unfetched = reason;
    }

    /// A partition stands still at this offset, until it goes on or is let go.
    pub(crate) fn set_corrupt(&self, assignment: &Arc<Assignment>, at: i64, reason: String) {
        let mut state = self.state.lock();
        state.corrupt.retain(|stands| !Arc::ptr_eq(&stands.0, assignment) && is_standing(stands));
        state.corrupt.push((Arc::clone(assignment), at, reason));
    }

    pub(crate) fn set_stalled(&self, stalled: Vec<String>) {
        self.state.lock().stalled = stalled;
    }

    /// A broker holds its answers back for this long from now on.
    pub(crate) fn set_throttled(&self, broker: i32, pause: Duration) {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.state.lock().throttled.throttled(broker, pause, Instant::now(), now_ms);
    }

    /// To be held while records wait for the route to take them.
    pub(crate) fn route_busy(&self) -> RouteBusy<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        RouteBusy { health: self, since: Instant::now() }
    }

    /// Whether records had to wait for the route since this was asked before: not as in passing,
    /// for that happens to every route that has something to do.
    pub(crate) fn was_backpressured(&self) -> bool {
        let [waits, before] = &self.waits;
        let now = waits.load(Ordering::Relaxed);
        let nothing_taken = before.swap(now, Ordering::Relaxed) == now;
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
            fetcher: state.fetcher,
            rebalances: self.rebalances.get(),
            commits: self.commits.get(),
            commits_failed: self.commits_failed.get(),
            kafka_errors: self.kafka_errors.get(),
            offset_resets: self.offset_resets.get(),
            records_skipped: self.records_skipped.get(),
            partitions_stalled: state.stalled.len(),
            waits: state.throttled.waits(Instant::now()),
        }
    }
}

/// Whether a partition is held and has not gone on since.
fn is_standing((assignment, at, _): &(Arc<Assignment>, i64, String)) -> bool {
    assignment.is_active() && assignment.position() == *at
}

impl HealthState {
    fn is_connected(&self) -> Option<bool> {
        if self.fetching { Some(true) } else { self.connected }
    }

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
        if let Some(fault) = &self.group_fault {
            return Some(fault.clone());
        }
        if let Some((topic, reason)) = self.missing.first() {
            return Some(format!("topic \"{topic}\": {reason}"));
        }
        match &self.assignment_progress {
            AssignmentProgress::Unknown => {
                return Some(format!("waiting for partitions{}", error()));
            }
            AssignmentProgress::Partial(reason) => return Some(format!("waiting for {reason}")),
            AssignmentProgress::Complete => {}
        }
        let corrupt = self.corrupt.iter().find(|stands| is_standing(stands));
        let corrupt = corrupt.map(|(_, _, reason)| reason.clone());
        corrupt.or_else(|| self.unfetched.clone()).or_else(|| self.stalled.first().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With one connection, each loss of it is the loss of all.
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
        health.set_fetching(true);
        assert!(health.is_connected(), "our own are there");
        health.set_fetching(false);
        health.set_connected(true);
        health.set_connected(false);
        assert!(health.is_connected(), "it was closed once more");
    }

    #[test]
    fn an_open_transaction_shows_between_the_ends() {
        for (told, readable, open) in [
            ((50, 40), Some(40), Some(40)),
            ((50, 50), Some(50), None),
            ((50, -1), Some(50), None),
            ((-1, -1), None, None),
        ] {
            let ends = Ends::new(told.0, told.1);
            let shown = (ends.map(Ends::readable), ends.and_then(Ends::open_transaction));
            assert_eq!(shown, (readable, open), "{told:?}");
        }
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
}
