//! The decisions about partitions, for a simulation that plays the client, the lookup, the commits
//! and the fetcher. Not for anybody else.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::action::Action;
use super::event::MembershipEvent;
use super::memory::Memory;
use super::partitions::{MembershipSettings, Partitions};
use crate::assignment::{Assignment, Positions};
use crate::client::Rebalance;
use crate::commits::{CommitDone, CommitRequest};
use crate::config::{FetcherKind, GroupProtocol, OnCorrupt, OnOutOfRange, Start};
use crate::exchange::{RevokeDone, RouteRequest, SourceEvent};
use crate::fetcher::sim::Fault;
use crate::generation::Generation;
use crate::health::SourceHealth;
use crate::lookup::{
    LookupAnswer, LookupError, LookupRequest, LookupStep, PendingQueries, PositionQuery,
    Resolution, StartPosition, StartRule, TopicIds, Unresolved,
};
use crate::mailbox::Mailbox;
use crate::topic_partition::TopicPartition;
use crate::topics::Listing;
use uuid::Uuid;

/// The membership of a source in a group, without its thread.
pub struct SimMembership {
    partitions: Partitions<'static>,
    inbox: (Sender<MembershipEvent>, Receiver<MembershipEvent>),
    health: SourceHealth,
}

impl std::fmt::Debug for SimMembership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimMembership").finish_non_exhaustive()
    }
}

/// A demand of the group, as librdkafka reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// Partitions are assigned.
    Assign(Vec<TopicPartition>),
    /// Partitions are asked back.
    Revoke(Vec<TopicPartition>),
    /// Partitions were taken away.
    Lost(Vec<TopicPartition>),
}

/// An action that the membership asks of the others, in its order.
#[derive(Debug)]
pub enum MembershipAction {
    /// Take partitions into the client's assignment and fetch them. Of none: answers the group.
    Add(Vec<Arc<Assignment>>),
    /// Fetch partitions no more and take them out of the client's assignment.
    Remove(Vec<Arc<Assignment>>),
    /// Answer an assignment without taking any of it.
    AssignNothing,
    /// Fetch this generation in place of the one before.
    Seek(Arc<Assignment>, Generation),
    /// Look something up.
    LookUp(SimQuestion),
    /// Commit positions, the newest of each partition.
    Commit(Positions),
    /// Commits may go below the last one.
    AllowRewind(Arc<Assignment>),
    /// Commit positions until the deadline, then answer with the id.
    CommitLast {
        /// The number by which [`SimMembership::committed`] is told.
        id: u64,
        /// Positions to be committed.
        positions: Positions,
        /// The time until which it holds.
        deadline: Instant,
    },
    /// Tell the route.
    Publish(SourceEvent),
    /// Something that concerns no simulation: a subscription, a report.
    Other(String),
}

impl SimMembership {
    /// A member of a group for these topics, each with its number of partitions.
    pub fn new(
        protocol: GroupProtocol,
        stall_timeout: Duration,
        topics: &[(String, i32)],
        now: Instant,
    ) -> Self {
        let settings = MembershipSettings {
            route: "sim".to_owned(),
            in_group: true,
            protocol,
            start: Start::Earliest,
            on_out_of_range: OnOutOfRange::Earliest,
            on_corrupt: OnCorrupt::Stop,
            revoke_timeout: Duration::from_secs(5),
            stall_timeout,
            fetcher: FetcherKind::Fast,
        };
        // In the product it outlives each of its members; here, the run of a seed.
        let memory = Box::leak(Box::new(Memory::new(listing(topics))));
        let mut partitions = Partitions::new(settings, memory);
        partitions.handle_listing(listing(topics), now);
        Self { partitions, inbox: channel(), health: SourceHealth::default() }
    }

    /// Takes what the group asks for.
    pub fn handle_group(&mut self, event: GroupEvent, now: Instant) {
        let event = match event {
            GroupEvent::Assign(partitions) => Rebalance::Assign(partitions),
            GroupEvent::Revoke(partitions) => Rebalance::Revoke(partitions),
            GroupEvent::Lost(partitions) => Rebalance::Lost(partitions),
        };
        self.partitions.handle_rebalance(event, now);
    }

    /// Takes what has come since, then does what is due. `is_lost`: whether the client has marked
    /// its assignment as lost.
    pub fn turn(&mut self, is_lost: bool, now: Instant) {
        while let Ok(event) = self.inbox.1.try_recv() {
            match event {
                MembershipEvent::Route(request) => self.partitions.handle_request(request, now),
                MembershipEvent::Lookup(answer) => {
                    self.partitions.handle_lookup(answer, is_lost, now)
                }
                MembershipEvent::Commit(done) => self.partitions.handle_commit(&done),
                MembershipEvent::Fetch(fault) => self.partitions.handle_fault(fault),
                // The simulation has neither.
                MembershipEvent::Group(_) | MembershipEvent::Panicked(_) => {}
            }
        }
        if self.partitions.poll_timeout(now).0 <= now {
            self.partitions.handle_timeout(now);
        }
    }

    /// Returns when something is due.
    pub fn poll_timeout(&self, now: Instant) -> Instant {
        self.partitions.poll_timeout(now).0
    }

    /// Returns what is to be done next.
    pub fn poll_action(&mut self, now: Instant) -> Option<MembershipAction> {
        loop {
            return Some(match self.partitions.poll_action()? {
                Action::Add(assignments) => MembershipAction::Add(assignments),
                Action::Remove(assignments) => MembershipAction::Remove(assignments),
                Action::AssignNothing => MembershipAction::AssignNothing,
                Action::Seek(assignment, generation) => {
                    MembershipAction::Seek(assignment, generation)
                }
                Action::Lookup(request) => MembershipAction::LookUp(SimQuestion(request)),
                Action::Commit(CommitRequest::Commit(positions)) => {
                    MembershipAction::Commit(positions)
                }
                Action::Commit(CommitRequest::AllowRewind(assignment)) => {
                    MembershipAction::AllowRewind(assignment)
                }
                Action::Commit(CommitRequest::Final { id, positions, deadline }) => {
                    MembershipAction::CommitLast { id, positions, deadline }
                }
                Action::Publish(event) => MembershipAction::Publish(event),
                Action::Revoke { id, assignments } => {
                    let done = RevokeDone::new(id, Mailbox::new(&self.inbox.0));
                    MembershipAction::Publish(SourceEvent::Revoked { assignments, done })
                }
                Action::CheckMember => {
                    self.partitions.handle_member(true, now);
                    continue;
                }
                Action::CheckBackpressure => {
                    let was_backpressured = self.health.was_backpressured();
                    self.partitions.handle_backpressure(was_backpressured, now);
                    continue;
                }
                Action::Stop(reason) => {
                    MembershipAction::Publish(SourceEvent::Stopped(reason.to_string()))
                }
                // It leaves its broker's requests as soon as there is something of it.
                Action::Pause(_) => continue,
                other @ (Action::Subscribe(_) | Action::UseLibrdkafka(_) | Action::Report(_)) => {
                    MembershipAction::Other(format!("{other:?}"))
                }
            });
        }
    }

    /// Returns the partitions that are shown as stalled, as they are shown.
    pub fn stalled(&mut self) -> Option<Vec<String>> {
        self.partitions.poll_health().map(|health| health.stalled)
    }

    /// Records wait for the route from now on.
    pub fn begin_wait(&self) {
        self.health.begin_wait();
    }

    /// The route has taken records that waited for so long.
    pub fn end_wait(&self, waited: Duration) {
        self.health.end_wait(waited);
    }

    // ---- what the other threads and the route send; it is taken at the next turn

    /// The route commits positions.
    pub fn commit(&self, positions: Positions) {
        self.send(MembershipEvent::Route(RouteRequest::Commit(positions)));
    }

    /// The route lets commits go back.
    pub fn allow_rewind(&self, assignment: Arc<Assignment>) {
        self.send(MembershipEvent::Route(RouteRequest::AllowRewind(assignment)));
    }

    /// The route holds a partition.
    pub fn pause(&self, assignment: &Arc<Assignment>) {
        self.send(MembershipEvent::Route(RouteRequest::pause(assignment)));
    }

    /// The route has a partition read again.
    pub fn restart(
        &self,
        assignment: &Arc<Assignment>,
        known: u32,
        offset: i64,
    ) -> Option<Generation> {
        let (generation, request) = RouteRequest::restart(assignment, known, offset)?;
        self.send(MembershipEvent::Route(request));
        Some(generation)
    }

    /// The last commit of this id is done, or given up.
    pub fn committed(&self, id: u64) {
        self.send(MembershipEvent::Commit(CommitDone { id }));
    }

    /// The fetcher has met something.
    pub fn fault(&self, fault: Fault) {
        self.send(MembershipEvent::Fetch(fault.0));
    }

    /// The lookup has an answer.
    pub fn answer(&self, answer: SimAnswer) {
        self.send(MembershipEvent::Lookup(answer.answer));
    }

    fn send(&self, event: MembershipEvent) {
        // The receiver is its own.
        let _ = self.inbox.0.send(event);
    }
}

fn listing(topics: &[(String, i32)]) -> Listing {
    let topics = topics.iter().map(|(topic, count)| (Arc::from(topic.as_str()), *count)).collect();
    Listing { topics, missing: Vec::new() }
}

/// A question to the lookup.
#[derive(Debug)]
pub struct SimQuestion(LookupRequest);

/// The answer of the lookup.
#[derive(Debug)]
pub struct SimAnswer {
    answer: LookupAnswer,
    /// The ids of the topics from before, until those from after it are compared with them.
    before: Option<TopicIds>,
}

/// The rule by which a partition of a group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginRule {
    /// Its committed offset, or else the earliest.
    Earliest,
    /// Its committed offset, or else the one that it had when it was taken away.
    Kept(i64),
    /// The earliest, whatever is committed.
    Anew,
}

/// The place where a partition of a group begins.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// The offset that is committed.
    pub start: i64,
    /// Leader epoch of the record before it; -1 if it is not known.
    pub epoch: i32,
}

/// The logs and the group, as far as a lookup reaches them.
pub trait SimCluster {
    /// Returns the id of a topic.
    fn topic_id(&mut self, topic: &str) -> Uuid;

    /// Returns where a partition begins, which is committed then, if it can be told now.
    fn begin(&mut self, of: &TopicPartition, rule: BeginRule) -> Option<Begin>;

    /// Returns the earliest offset, if it can be told now. `generation` is the one it is for.
    fn earliest(&mut self, of: &Assignment, generation: u32) -> Option<i64>;

    /// Returns the end as a reader sees it, if it can be told now.
    fn end(&mut self, of: &Assignment) -> Option<i64>;
}

impl SimQuestion {
    /// Returns when it is to be asked, if that is not at once.
    pub fn due(&self) -> Option<Instant> {
        match &self.0 {
            LookupRequest::Starts { due, .. } => Some(*due),
            _ => None,
        }
    }

    /// Asks it. `Ok(None)` if nobody wants to know any more.
    ///
    /// # Errors
    /// It is to be asked again.
    pub fn ask(self, cluster: &mut impl SimCluster) -> Result<Option<SimAnswer>, Self> {
        let mut before = None;
        let answer = match self.0 {
            LookupRequest::Starts { pending, .. } if pending.is_empty() => return Ok(None),
            LookupRequest::Earliest { due, .. } if !due.is_now() => return Ok(None),
            LookupRequest::Starts { id, mut queries, pending, .. } => {
                let ids = topic_ids(&TopicIds::asked(&queries), cluster);
                ids.without_past(&mut queries);
                before = Some(ids);
                starts(id, queries, &pending, cluster)
            }
            LookupRequest::Earliest { due, reason } => {
                match cluster.earliest(&due.assignment, due.generation) {
                    Some(to) => LookupAnswer::Earliest { due, to, reason },
                    None => return Err(Self(LookupRequest::Earliest { due, reason })),
                }
            }
            LookupRequest::Ends(assignments) => {
                let end = |of: Arc<Assignment>| {
                    let end = cluster.end(&of).unwrap_or_else(|| of.position());
                    (of, end)
                };
                LookupAnswer::Ends(assignments.into_iter().map(end).collect())
            }
            // Only where librdkafka fetches.
            LookupRequest::TopicIds(_) => return Ok(None),
        };
        Ok(Some(SimAnswer { answer, before }))
    }
}

impl SimAnswer {
    /// Looks at the ids of the topics once more, unless that was done.
    pub fn confirm(&mut self, cluster: &mut impl SimCluster) {
        let LookupAnswer::Starts { resolved, unresolved, .. } = &mut self.answer else { return };
        let Some(before) = self.before.take() else { return };
        let mut resolution = Resolution {
            resolved: std::mem::take(resolved),
            unresolved: std::mem::take(unresolved),
        };
        let resolved_topics = resolution.resolved.iter().map(|one| &one.topic_partition.topic);
        let topics = resolved_topics
            .chain(resolution.unresolved.iter().map(|open| &open.query.topic_partition.topic));
        let after = topic_ids(&topics.cloned().collect::<Vec<_>>(), cluster);
        resolution.settle(&before, &after);
        (*resolved, *unresolved) = (resolution.resolved, resolution.unresolved);
    }
}

fn topic_ids(topics: &[Arc<str>], cluster: &mut impl SimCluster) -> TopicIds {
    TopicIds::new(topics.iter().map(|topic| (topic.to_string(), cluster.topic_id(topic))))
}

fn starts(
    id: u64,
    queries: Vec<PositionQuery>,
    pending: &PendingQueries,
    cluster: &mut impl SimCluster,
) -> LookupAnswer {
    let (mut resolved, mut unresolved) = (Vec::new(), Vec::new());
    for query in queries {
        // What the group has given to another member is that one's to commit.
        if !pending.contains(&query.topic_partition) {
            continue;
        }
        let rule = match query.rule {
            StartRule::Found { offset, .. } => BeginRule::Kept(offset),
            StartRule::At(_) => BeginRule::Earliest,
            StartRule::Anew => BeginRule::Anew,
        };
        match cluster.begin(&query.topic_partition, rule) {
            Some(Begin { start, epoch }) => resolved.push(StartPosition {
                topic_partition: query.topic_partition,
                start,
                committed: Some(start),
                epoch,
                topic_id: Uuid::nil(),
            }),
            None => {
                let (step, reason) = (LookupStep::Start, LookupError::NoAnswer);
                unresolved.push(Unresolved { query, step, reason });
            }
        }
    }
    LookupAnswer::Starts { id, resolved, unresolved }
}
