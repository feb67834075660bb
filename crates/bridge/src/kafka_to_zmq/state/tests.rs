#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use zafka_envelope::{FramePlan, Preset, Record};
use zafka_kafka::config::{GroupConfig, SourceConfig, Start};
use zafka_kafka::sim::{self, Drained};
use zafka_sockets::config::{PubConfig, SlowPeer};
use zafka_sockets::{Chunk, Label, Origin};

use super::*;
use crate::kafka_to_zmq::action::Positions;
use crate::kafka_to_zmq::testing::Offsets;

/// Records of a partition.
struct Fake {
    assignment: Arc<Assignment>,
    generation: Generation,
    records: Offsets,
}

impl Records for Fake {
    fn assignment(&self) -> &Arc<Assignment> {
        &self.assignment
    }

    fn generation(&self) -> Generation {
        self.generation
    }

    fn walk(&mut self, f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool {
        self.records.walk(f)
    }

    fn next_offset(&self) -> i64 {
        self.records.offsets.last().map_or(0, |last| last + 1)
    }
}

/// A socket that takes chunks or does not, and whose peers take what they are told to.
#[derive(Default)]
struct FakeSink {
    is_full: bool,
    chunks: Vec<Chunk>,
    withdrawn: Vec<Arc<Origin>>,
}

impl Sink for FakeSink {
    fn admits(&self, _size: usize) -> bool {
        !self.is_full
    }

    fn add(&mut self, chunk: Chunk) {
        self.chunks.push(chunk);
    }

    fn flush(&mut self) {}

    fn withdraw(&mut self, origin: &Arc<Origin>) {
        self.withdrawn.push(Arc::clone(origin));
    }

    fn label(&mut self, _topic: &str) -> Option<Label> {
        None
    }

    fn demand(&mut self, _frame: Option<Vec<u8>>, _label: Option<&Label>) -> Arc<Demand> {
        unreachable!("nobody is waited for")
    }

    fn has_unheard(&self) -> bool {
        false
    }
}

/// A route that has partition `orders/0` from offset 10 on.
struct Stage {
    state: RouteState<FakeSink, Fake>,
    report: Arc<RouteReport>,
    assignment: Arc<Assignment>,
    now: Instant,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let report = Arc::new(RouteReport::default());
        let sink = FakeSink::default();
        let mut state = RouteState::new(Arc::new(config()), Arc::clone(&report), sink, now);
        let assignment = sim::assignment("orders", 0, 10);
        state.handle_event(SourceEvent::Assigned(vec![Arc::clone(&assignment)]), now);
        Self { state, report, assignment, now }
    }

    fn fetched(&mut self, offsets: &[i64]) {
        let (assignment, generation) = (Arc::clone(&self.assignment), self.assignment.generation());
        assert!(self.state.takes_records());
        let records = Offsets::new(offsets.iter().copied());
        self.state.handle_fetched(Fake { assignment, generation, records });
        self.state.handle_room(self.now);
        self.state.end_turn();
    }

    /// The peers take all that is published.
    fn deliver(&self) {
        let progress = &self.report.progress()[0];
        let position = self.state.sink().chunks.last().unwrap().position();
        progress.origin.deliver(position);
    }

    fn revoke(&mut self) -> Drained {
        sim::set_revoking(&self.assignment);
        let (done, drained) = sim::revoke_done();
        let assignments = vec![Arc::clone(&self.assignment)];
        self.state.handle_event(SourceEvent::Revoked { assignments, done }, self.now);
        drained
    }

    /// Time passes; what is to be done then.
    fn after(&mut self, time: Duration) -> Vec<&'static str> {
        self.now += time;
        self.state.handle_timeout(self.now);
        self.state.handle_room(self.now);
        self.actions()
    }

    fn actions(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(action) = self.state.poll_action() {
            names.push(match action {
                Action::Commit(positions) => {
                    assert!(!positions.is_empty());
                    "commit"
                }
                Action::AllowRewind(_) => "allow rewind",
                Action::Pause(_) => "pause",
                Action::Restart { .. } => "restart",
                Action::Release { done, positions } => {
                    done.complete(positions);
                    "release"
                }
                Action::Stop(_) => "stop",
            });
        }
        names
    }
}

fn config() -> RouteConfig {
    RouteConfig {
        name: "test".to_owned(),
        source: SourceConfig {
            group: Some(GroupConfig::new("g")),
            start: Start::Earliest,
            ..SourceConfig::new("test", Vec::new())
        },
        frames: FramePlan::preset(Preset::Json),
        rename: Vec::new(),
        socket: PubConfig {
            slow_peer: SlowPeer::Block,
            ring_bytes: 1 << 20,
            peer_timeout: None,
            ..PubConfig::default()
        },
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn offsets(positions: Option<Positions>) -> Option<Vec<i64>> {
    Some(positions?.iter().map(|(_, offset)| *offset).collect())
}

#[test]
fn what_is_delivered_is_committed_each_second() {
    let mut stage = Stage::new();
    assert_eq!(stage.after(Duration::ZERO), ["commit"], "the start, before any record");
    sim::set_committed(&stage.assignment, 10);
    stage.fetched(&[10, 11]);
    assert_eq!(stage.after(SECOND), [""; 0], "nothing is delivered");
    stage.deliver();
    assert_eq!(stage.state.poll_timeout().unwrap().0, stage.now + SECOND);
    assert_eq!(stage.after(SECOND - Duration::from_millis(1)), [""; 0]);
    assert_eq!(stage.after(Duration::from_millis(1)), ["commit"]);
}

#[test]
fn revoked_while_a_chunk_waits_for_room() {
    let mut stage = Stage::new();
    stage.fetched(&[10, 11]);
    stage.state.sink_mut().is_full = true;
    stage.fetched(&[12]);
    assert!(stage.state.needs_room().is_some());
    let mut drained = stage.revoke();
    assert!(stage.state.takes_records(), "that one is let go");
    assert_eq!(stage.after(SECOND), [""; 0], "the other one is owed");
    assert_eq!(stage.after(4 * SECOND), ["release"], "its time is up");
    assert_eq!(offsets(drained.take()), Some(vec![10]));
    assert!(!stage.state.sink().withdrawn.is_empty());
}

#[test]
fn revoked_partitions_go_once_they_are_drained() {
    let mut stage = Stage::new();
    stage.after(Duration::ZERO);
    stage.fetched(&[10, 11]);
    let progress = Arc::clone(&stage.report.progress()[0]);
    let mut drained = stage.revoke();
    let (due, why) = stage.state.poll_timeout().unwrap();
    assert!(due <= stage.now + Duration::from_millis(2), "{why}");
    assert_eq!(stage.after(Duration::from_millis(2)), [""; 0]);
    progress.origin.deliver(12);
    assert_eq!(stage.after(Duration::from_millis(2)), ["release"]);
    assert_eq!(offsets(drained.take()), Some(vec![12]));
}

#[test]
fn lost_while_something_is_to_be_committed() {
    let mut stage = Stage::new();
    stage.after(Duration::ZERO);
    stage.fetched(&[10, 11]);
    stage.deliver();
    let lost = vec![Arc::clone(&stage.assignment)];
    stage.state.handle_event(SourceEvent::Lost(lost), stage.now);
    assert_eq!(stage.after(SECOND), [""; 0], "another member may have it");
    assert!(!stage.state.sink().withdrawn.is_empty() && stage.report.progress().is_empty());
}

#[test]
fn reset_while_it_is_revoked() {
    let mut stage = Stage::new();
    stage.fetched(&[10, 11, 12]);
    stage.deliver();
    assert_eq!(stage.after(Duration::ZERO), ["commit"]);
    // Told before the revocation: commits go back.
    let generation = sim::reset_to(&stage.assignment, 11, true);
    let assignment = Arc::clone(&stage.assignment);
    let reset = SourceEvent::Reset { assignment, generation, from: 13 };
    stage.state.handle_event(reset, stage.now);
    assert_eq!(stage.actions(), ["allow rewind"]);
    let mut drained = stage.revoke();
    assert_eq!(stage.after(Duration::from_millis(2)), ["release"]);
    assert_eq!(offsets(drained.take()), Some(vec![11]));
}

#[test]
fn stopped_while_a_chunk_waits_for_room() {
    let mut stage = Stage::new();
    stage.after(Duration::ZERO);
    stage.fetched(&[10, 11]);
    stage.deliver();
    stage.state.sink_mut().is_full = true;
    stage.fetched(&[12]);
    stage.state.handle_stop(stage.now + SECOND);
    assert!(stage.state.is_draining() && !stage.state.takes_records());
    assert_eq!(stage.state.poll_timeout().unwrap().0, stage.now + SECOND);
    assert_eq!(stage.after(SECOND / 2), [""; 0], "nothing is committed meanwhile");
    stage.state.handle_drained(stage.now);
    let Some(Action::Stop(positions)) = stage.state.poll_action() else { panic!("it stops") };
    assert_eq!(offsets(Some(positions)), Some(vec![12]));
    assert!(stage.state.poll_timeout().is_none());
}

#[test]
fn a_drain_ends_at_its_time_and_gives_back_what_is_revoked() {
    let mut stage = Stage::new();
    stage.fetched(&[10, 11]);
    let mut drained = stage.revoke();
    stage.state.handle_stop(stage.now + SECOND);
    stage.actions();
    assert_eq!(stage.after(SECOND), ["release", "stop"]);
    assert_eq!(offsets(drained.take()), Some(vec![10]), "nothing was delivered");
}

#[test]
fn an_offset_that_falls_back_stops_the_route_and_says_which() {
    let mut stage = Stage::new();
    stage.fetched(&[10, 12]);
    stage.deliver();
    stage.fetched(&[12]);
    let reason = stage.report.stopped().unwrap();
    assert!(reason.contains("orders/0: a record at offset 12"), "{reason}");
    assert!(stage.state.is_draining());
    stage.state.handle_drained(stage.now);
    let Some(Action::Stop(positions)) = stage.state.poll_action() else { panic!("it stops") };
    assert_eq!(offsets(Some(positions)), Some(vec![13]), "what was delivered before");
}

#[test]
fn a_position_that_falls_back_is_not_committed() {
    let mut stage = Stage::new();
    stage.fetched(&[10, 11]);
    stage.deliver();
    assert_eq!(stage.after(Duration::ZERO), ["commit"]);
    stage.report.progress()[0].origin.deliver(11);
    assert_eq!(stage.after(SECOND), [""; 0]);
    let reason = stage.report.stopped().unwrap();
    assert!(reason.contains("committed up to 12, but delivered up to 11"), "{reason}");
}
