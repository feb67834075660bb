//! Every story is a table: what happens, and the actions that it calls for.

use kafka_protocol::messages::ApiKey;
use uuid::Uuid;

use super::*;
use crate::client::Rebalance;
use crate::commits::CommitDone;
use crate::connection::RequestError;
use crate::fetcher::{CorruptBatch, FetchFailure, FetchFault};
use crate::lookup::{LookupError, LookupStep, PositionQuery, StartRule};
use crate::reset::{DueOffset, ResetReason};

mod groupless;

fn failure(text: &str) -> FetchFailure {
    FetchFailure::Librdkafka(text.to_owned())
}

/// An event of the partitions of topic `t`.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The group assigns, revokes or takes away.
    Assign(&'static [i32]),
    Revoke(&'static [i32]),
    Lost(&'static [i32]),
    /// The starts of these are known, of others that were asked for not.
    Found(&'static [i32]),
    /// The same while librdkafka has marked the assignment as lost.
    FoundLate(&'static [i32]),
    /// The route has drained what was revoked last, up to offset 12.
    Drained(&'static [i32]),
    /// The final commit that was asked for last is done.
    Committed,
    /// A pause of so many milliseconds.
    Wait(u64),
    /// The fetch of this partition is under way: what comes of it is of this moment.
    Fetch(i32),
    /// The result.
    OutOfRange,
    Truncated(i64),
    Corrupt(Option<i64>),
    /// The earliest offset that was asked for.
    Earliest(i64),
    /// The route has the partition read again from offset 6.
    Restart(i32),
    TooOld,
    /// The ids of the topic, if librdkafka fetches.
    TopicId(u128),
    Leave,
    Close(&'static [i32]),
    End,
}

use Step::*;

struct Stage<'a> {
    partitions: Partitions<'a>,
    now: Instant,
    /// Those that were published last.
    assignments: BTreeMap<i32, Arc<Assignment>>,
    asked: Option<(u64, Vec<PositionQuery>)>,
    revoked: u64,
    committing: u64,
    due: Option<DueOffset>,
    reset: Option<ResetReason>,
    /// The id of the topic whose starts are found.
    topic_id: Uuid,
}

fn settings() -> MembershipSettings {
    MembershipSettings {
        route: "test".to_owned(),
        in_group: true,
        protocol: GroupProtocol::Consumer,
        start: Start::Latest,
        on_out_of_range: OnOutOfRange::Earliest,
        on_corrupt: OnCorrupt::Stop,
        revoke_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(30),
        fetcher: FetcherKind::Fast,
    }
}

fn of(partitions: &[i32]) -> Vec<TopicPartition> {
    partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect()
}

fn listing(count: i32) -> Listing {
    let topics = if count == 0 { vec![] } else { vec![(Arc::from("t"), count)] };
    Listing { topics: topics.into_iter().collect(), missing: Vec::new() }
}

fn shown<'a>(what: &str, assignments: impl IntoIterator<Item = &'a Arc<Assignment>>) -> String {
    let numbers = assignments.into_iter().map(|assignment| assignment.partition());
    numbers.fold(what.to_owned(), |text, number| format!("{text} {number}"))
}

impl<'a> Stage<'a> {
    fn new(settings: MembershipSettings, memory: &'a mut Memory) -> Self {
        Self {
            partitions: Partitions::new(settings, memory),
            now: Instant::now(),
            assignments: BTreeMap::new(),
            asked: None,
            revoked: 0,
            committing: 0,
            due: None,
            reset: None,
            topic_id: Uuid::nil(),
        }
    }

    /// Lets it happen. Returns the actions.
    fn step(&mut self, step: Step) -> Vec<String> {
        let (partitions, now) = (&mut self.partitions, self.now);
        match step {
            Assign(these) => partitions.handle_rebalance(Rebalance::Assign(of(these)), now),
            Revoke(these) => partitions.handle_rebalance(Rebalance::Revoke(of(these)), now),
            Lost(these) => partitions.handle_rebalance(Rebalance::Lost(of(these)), now),
            Found(these) => self.found(these, false),
            FoundLate(these) => self.found(these, true),
            Drained(these) => {
                let positions = self.positions(these);
                let request = RouteRequest::Drained { id: self.revoked, positions };
                self.partitions.handle_request(request, now);
            }
            Committed => partitions.handle_commit(&CommitDone { id: self.committing }),
            Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.partitions.handle_timeout(self.now);
            }
            Fetch(partition) => self.due = Some(DueOffset::of(&self.assignments[&partition])),
            OutOfRange => {
                let (due, error) = (self.due.clone().unwrap(), failure("gone"));
                partitions.handle_fault(FetchFault::OutOfRange { due, error });
            }
            Truncated(to) => {
                let (due, reason) = (self.due.clone().unwrap(), ResetReason::Truncated);
                partitions.handle_fault(FetchFault::ResetNeeded { due, to: Some(to), reason });
            }
            Corrupt(next) => {
                let (due, error) = (self.due.clone().unwrap(), failure("rotten"));
                partitions.handle_fault(FetchFault::Corrupt(CorruptBatch { due, next, error }));
            }
            Earliest(to) => {
                let (due, reason) = (self.due.clone().unwrap(), self.reset.unwrap());
                partitions.handle_lookup(LookupAnswer::Earliest { due, to, reason }, false, now);
            }
            Restart(partition) => {
                let assignment = Arc::clone(&self.assignments[&partition]);
                let known = assignment.generation().number;
                let generation = assignment.restart(known, 6).unwrap();
                partitions.handle_request(RouteRequest::Restart(assignment, generation), now);
            }
            TooOld => {
                let (broker, api) = ("broker:9092".to_owned(), ApiKey::Fetch);
                let error = RequestError::TooOld { broker, api };
                partitions.handle_fault(FetchFault::BrokerTooOld(error));
            }
            TopicId(id) => {
                let ids = LookupAnswer::TopicIds(vec![("t".to_owned(), Uuid::from_u128(id))]);
                partitions.handle_lookup(ids, false, now);
            }
            Leave => partitions.leave(now),
            Close(these) => {
                let last = self.positions(these);
                self.committing = self.partitions.close(last, now).unwrap_or(0);
            }
            End => partitions.end(),
        }
        self.actions()
    }

    fn positions(&self, these: &[i32]) -> Positions {
        these.iter().map(|partition| (Arc::clone(&self.assignments[partition]), 12)).collect()
    }

    fn found(&mut self, these: &[i32], is_lost: bool) {
        let (id, queries) = self.asked.clone().unwrap();
        let (mut resolved, mut unresolved) = (Vec::new(), Vec::new());
        for query in queries {
            let topic_partition = query.topic_partition.clone();
            if these.contains(&topic_partition.partition) {
                let (start, committed, topic_id) = (5, Some(5), self.topic_id);
                let position =
                    StartPosition { topic_partition, start, committed, epoch: -1, topic_id };
                resolved.push(position);
            } else {
                let (step, reason) = (LookupStep::Start, LookupError::NoAnswer);
                unresolved.push(Unresolved { query, step, reason });
            }
        }
        let answer = LookupAnswer::Starts { id, resolved, unresolved };
        self.partitions.handle_lookup(answer, is_lost, self.now);
    }

    fn actions(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        while let Some(action) = self.partitions.poll_action() {
            actions.extend(self.note(action));
        }
        actions
    }

    /// An action as text; none for those that only look.
    fn note(&mut self, action: Action) -> Option<String> {
        Some(match action {
            Action::Subscribe(topics) => format!("subscribe {}", topics.join(" ")),
            Action::Add(assignments) => shown("add", &assignments),
            Action::Remove(assignments) => shown("remove", &assignments),
            Action::AssignNothing => "assign nothing".to_owned(),
            Action::Seek(assignment, generation) => {
                format!("seek {} {}", assignment.partition(), generation.start)
            }
            Action::Pause(assignment) => format!("pause {}", assignment.partition()),
            Action::UseLibrdkafka(assignments) => shown("use librdkafka", &assignments),
            Action::Lookup(LookupRequest::Starts { id, queries, .. }) => {
                let text = queries.iter().fold("look up".to_owned(), |text, query| {
                    format!("{text} {}", query.topic_partition.partition)
                });
                self.asked = Some((id, queries));
                text
            }
            Action::Lookup(LookupRequest::Earliest { due, reason }) => {
                self.reset = Some(reason);
                let text = format!("earliest {}", due.assignment.partition());
                self.due = Some(due);
                text
            }
            Action::Lookup(LookupRequest::Ends(assignments)) => shown("ends", &assignments),
            Action::Lookup(LookupRequest::TopicIds(topics)) => format!("ids {}", topics.join(" ")),
            Action::Commit(CommitRequest::Final { id, positions, .. }) => {
                self.committing = id;
                shown("commit", positions.iter().map(|(assignment, _)| assignment))
            }
            Action::Commit(_) => "commit".to_owned(),
            Action::Publish(SourceEvent::Assigned(assignments)) => {
                let these = assignments.iter();
                self.assignments.extend(these.map(|of| (of.partition(), Arc::clone(of))));
                shown("assigned", &assignments)
            }
            Action::Publish(SourceEvent::Lost(assignments)) => shown("lost", &assignments),
            Action::Publish(SourceEvent::Reset { assignment, generation, from }) => {
                format!("reset {} {from} {}", assignment.partition(), generation.start)
            }
            Action::Publish(event) => format!("{event:?}"),
            Action::Revoke { id, assignments } => {
                self.revoked = id;
                shown("revoke", &assignments)
            }
            Action::Report(reason) => format!("report {reason}"),
            Action::Stop(reason) => format!("stop {reason}"),
            Action::CheckMember | Action::CheckBackpressure => return None,
        })
    }
}

/// A story: its steps, each with the actions that it calls for.
type Story<'a> = (&'a str, &'a [(Step, &'a [&'a str])]);

/// Plays stories. Each begins with a topic of three partitions in a group.
fn play(settings: impl Fn() -> MembershipSettings, stories: &[Story<'_>]) {
    for (name, steps) in stories {
        let mut memory = Memory::new(listing(3));
        let mut stage = Stage::new(settings(), &mut memory);
        stage.partitions.handle_listing(listing(3), stage.now);
        assert_eq!(stage.actions(), ["subscribe t"], "{name}");
        for (at, (step, expected)) in steps.iter().enumerate() {
            assert_eq!(stage.step(*step), *expected, "{name}: {step:?}, step {at}");
        }
    }
}

#[test]
fn partitions_are_fetched_once_their_starts_are_known() {
    play(
        settings,
        &[
            ("nothing is assigned", &[(Assign(&[]), &["add"])]),
            (
                "all starts are known",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                    (Found(&[0, 1]), &[]),
                ],
            ),
            (
                "some are not: the group has its answer all the same",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[1]), &["look up 0", "assigned 1", "add 1"]),
                    (Found(&[]), &["look up 0"]),
                    (Found(&[0]), &["assigned 0", "add 0"]),
                ],
            ),
            (
                "none is: the group has its answer all the same",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[]), &["look up 0 1", "add"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                ],
            ),
            (
                "the group is about to take them away: nothing is added to it",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[1]), &["look up 0", "assigned 1", "add 1"]),
                    (FoundLate(&[0]), &["look up 0"]),
                    (Lost(&[0, 1]), &["remove 1", "lost 1"]),
                    (Found(&[0]), &[]),
                ],
            ),
            (
                "the first answer is given also then",
                &[
                    (Assign(&[0]), &["look up 0"]),
                    (FoundLate(&[0]), &["assigned 0", "add 0"]),
                    (Lost(&[0]), &["remove 0", "lost 0"]),
                ],
            ),
            (
                "one after the other",
                &[
                    (Assign(&[0]), &["look up 0"]),
                    (Found(&[0]), &["assigned 0", "add 0"]),
                    (Assign(&[1]), &["look up 1"]),
                    (Found(&[1]), &["assigned 1", "add 1"]),
                ],
            ),
        ],
    );
}

#[test]
fn revoked_partitions_go_once_they_are_drained_and_committed() {
    let assigned: [(Step, &[&str]); 2] =
        [(Assign(&[0, 1]), &["look up 0 1"]), (Found(&[0, 1]), &["assigned 0 1", "add 0 1"])];
    let rows: Vec<Story<'_>> = vec![
        (
            "in order",
            &[
                (Revoke(&[0]), &["revoke 0"]),
                (Drained(&[0]), &["commit 0"]),
                (Committed, &["remove 0"]),
                (Committed, &[]),
            ],
        ),
        (
            "the route does not drain them in time",
            &[
                (Revoke(&[0]), &["revoke 0"]),
                (Wait(5_999), &[]),
                (Wait(1), &["remove 0"]),
                (Drained(&[0]), &[]),
            ],
        ),
        (
            "the coordinator does not answer in time",
            &[
                (Revoke(&[0]), &["revoke 0"]),
                (Wait(5_999), &[]),
                (Drained(&[0]), &["commit 0"]),
                (Wait(4_999), &[]),
                (Wait(1), &["remove 0"]),
                (Committed, &[]),
            ],
        ),
        (
            "lost while they drain",
            &[
                (Revoke(&[0]), &["revoke 0"]),
                (Lost(&[0, 1]), &["remove 0 1", "lost 0 1"]),
                (Drained(&[0]), &[]),
                (Wait(60_000), &[]),
            ],
        ),
        (
            "lost while they are committed",
            &[
                (Revoke(&[0, 1]), &["revoke 0 1"]),
                (Drained(&[0, 1]), &["commit 0 1"]),
                (Lost(&[0, 1]), &["remove 0 1", "lost 0 1"]),
                (Committed, &[]),
                (Wait(60_000), &[]),
            ],
        ),
        (
            "one of them is lost while they are committed: it is not given back twice",
            &[
                (Revoke(&[0, 1]), &["revoke 0 1"]),
                (Drained(&[0, 1]), &["commit 0 1"]),
                (Lost(&[0]), &["remove 0", "lost 0"]),
                (Committed, &["remove 1"]),
            ],
        ),
        (
            "assigned again",
            &[
                (Revoke(&[0]), &["revoke 0"]),
                (Drained(&[0]), &["commit 0"]),
                (Committed, &["remove 0"]),
                (Assign(&[0]), &["look up 0"]),
                (Found(&[0]), &["assigned 0", "add 0"]),
            ],
        ),
        ("none of them is ours", &[(Revoke(&[2]), &["remove"])]),
    ];
    for (name, steps) in rows {
        let steps: Vec<_> = assigned.iter().chain(steps).copied().collect();
        play(settings, &[(name, &steps)]);
    }
    play(
        settings,
        &[
            (
                "revoked while being looked up",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Revoke(&[0]), &["remove"]),
                    (Found(&[0, 1]), &["assigned 1", "add 1"]),
                ],
            ),
            (
                "all revoked while being looked up",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Revoke(&[0, 1]), &["remove"]),
                    (Found(&[0, 1]), &[]),
                ],
            ),
            (
                "one is fetched, the other is being looked up",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0]), &["look up 1", "assigned 0", "add 0"]),
                    (Revoke(&[0, 1]), &["revoke 0"]),
                    (Found(&[1]), &[]),
                    (Drained(&[0]), &["commit 0"]),
                    (Committed, &["remove 0"]),
                ],
            ),
        ],
    );
}

#[test]
fn a_reset_counts_only_for_what_is_still_read() {
    let assigned: [(Step, &[&str]); 3] = [
        (Assign(&[0, 1]), &["look up 0 1"]),
        (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
        (Fetch(0), &[]),
    ];
    let rows: Vec<Story<'_>> = vec![
        (
            "out of range",
            &[(OutOfRange, &["earliest 0"]), (Earliest(9), &["reset 0 5 9", "seek 0 9"])],
        ),
        ("truncated", &[(Truncated(3), &["reset 0 5 3", "seek 0 3"])]),
        ("reported twice", &[(Truncated(3), &["reset 0 5 3", "seek 0 3"]), (Truncated(3), &[])]),
        (
            "reset while revoking",
            &[
                (Revoke(&[0]), &["revoke 0"]),
                (OutOfRange, &[]),
                (Truncated(3), &[]),
                (Drained(&[0]), &["commit 0"]),
                (Truncated(3), &[]),
            ],
        ),
        (
            "revoked while the earliest offset is looked up",
            &[(OutOfRange, &["earliest 0"]), (Revoke(&[0]), &["revoke 0"]), (Earliest(9), &[])],
        ),
        (
            "lost while the earliest offset is looked up",
            &[
                (OutOfRange, &["earliest 0"]),
                (Lost(&[0]), &["remove 0", "lost 0"]),
                (Earliest(9), &[]),
            ],
        ),
        (
            "restarted while the earliest offset is looked up",
            &[(OutOfRange, &["earliest 0"]), (Restart(0), &["seek 0 6"]), (Earliest(9), &[])],
        ),
        (
            "assigned again since",
            &[
                (Lost(&[0]), &["remove 0", "lost 0"]),
                (Assign(&[0]), &["look up 0"]),
                (Found(&[0]), &["assigned 0", "add 0"]),
                (OutOfRange, &[]),
            ],
        ),
        ("after the close", &[(Close(&[]), &[]), (OutOfRange, &[]), (End, &["remove 0 1"])]),
    ];
    for (name, steps) in rows {
        let steps: Vec<_> = assigned.iter().chain(steps).copied().collect();
        play(settings, &[(name, &steps)]);
    }
}

#[test]
fn what_is_skipped_counts_once_however_often_it_is_met() {
    let mut memory = Memory::new(listing(3));
    let mut stage = Stage::new(settings(), &mut memory);
    stage.partitions.handle_listing(listing(3), stage.now);
    // Resets and skipped records after each step.
    for (step, counted) in [
        (Assign(&[0]), (0, 0)),
        (Found(&[0]), (0, 0)),
        (Fetch(0), (0, 0)),
        (OutOfRange, (0, 0)),
        (Earliest(9), (1, 4)),
        // From what was delivered: the log lacks it as before, and more of it by now.
        (Restart(0), (1, 4)),
        (Fetch(0), (1, 4)),
        (OutOfRange, (1, 4)),
        (Earliest(9), (1, 4)),
        (Restart(0), (1, 4)),
        (Fetch(0), (1, 4)),
        (OutOfRange, (1, 4)),
        (Earliest(12), (2, 7)),
        // What comes after that is another log.
        (Fetch(0), (2, 7)),
        (Truncated(10), (3, 7)),
        (Fetch(0), (3, 7)),
        (OutOfRange, (3, 7)),
        (Earliest(12), (4, 9)),
    ] {
        stage.step(step);
        let health = &stage.partitions.memory.health;
        assert_eq!((health.offset_resets, health.records_skipped), counted, "{step:?}");
    }
}

#[test]
fn what_cannot_be_read_stops_or_is_skipped() {
    let stop = "the log has no offset 5: gone (on_out_of_range = \"stop\")";
    let truncated = "the log was truncated to 3, below 5 (on_out_of_range = \"stop\"; to go on, \
                     set the group's offset to 3, or on_out_of_range to \"earliest\")";
    let stands = "report t/0: rotten; the partition stands still (on_corrupt = \"stop\")";
    let endless = "report t/0: rotten; the partition stands still, for where the batch ends \
                   cannot be told";
    let skips = "report t/0: rotten; going on at offset 8 (on_corrupt = \"skip\")";
    let (stop, truncated) = (format!("stop t/0: {stop}"), format!("stop t/0: {truncated}"));
    let strict = (OnOutOfRange::Stop, OnCorrupt::Stop);
    let lenient = (OnOutOfRange::Earliest, OnCorrupt::Skip);
    let rows: &[(_, Step, &[&str])] = &[
        (strict, OutOfRange, &[&stop]),
        (strict, Truncated(3), &[&truncated]),
        (strict, Corrupt(Some(8)), &[stands]),
        (strict, Corrupt(None), &[stands]),
        (lenient, Corrupt(Some(8)), &[skips, "reset 0 5 8", "seek 0 8"]),
        (lenient, Corrupt(None), &[endless]),
    ];
    for ((on_out_of_range, on_corrupt), step, expected) in rows {
        let settings = || MembershipSettings {
            on_out_of_range: *on_out_of_range,
            on_corrupt: *on_corrupt,
            ..settings()
        };
        play(
            settings,
            &[(
                "a fault",
                &[
                    (Assign(&[0]), &["look up 0"]),
                    (Found(&[0]), &["assigned 0", "add 0"]),
                    (Fetch(0), &[]),
                    (*step, expected),
                ],
            )],
        );
    }
}

#[test]
fn librdkafka_takes_over_what_is_read() {
    play(
        settings,
        &[
            ("before anything is assigned", &[(TooOld, &["use librdkafka"]), (TooOld, &[])]),
            (
                "while assigned",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                    (TooOld, &["use librdkafka 0 1"]),
                    (TooOld, &[]),
                    (Assign(&[2]), &["look up 2"]),
                    (Found(&[2]), &["assigned 2", "add 2", "ids t"]),
                ],
            ),
            (
                "while one is being looked up",
                &[
                    (Assign(&[0]), &["look up 0"]),
                    (TooOld, &["use librdkafka"]),
                    (Found(&[0]), &["assigned 0", "add 0", "ids t"]),
                ],
            ),
            (
                "what is being revoked is given back as it was to be",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                    (Revoke(&[0]), &["revoke 0"]),
                    (TooOld, &["use librdkafka 1"]),
                    (Drained(&[0]), &["commit 0"]),
                    (Committed, &["remove 0"]),
                ],
            ),
            (
                "a topic that is recreated is read from its start",
                &[
                    (TooOld, &["use librdkafka"]),
                    (Assign(&[0]), &["look up 0"]),
                    (Found(&[0]), &["assigned 0", "add 0", "ids t"]),
                    (TopicId(1), &[]),
                    (TopicId(1), &[]),
                    (TopicId(2), &["earliest 0"]),
                    (Earliest(0), &["reset 0 5 0", "seek 0 0"]),
                ],
            ),
        ],
    );
}

#[test]
fn everything_is_given_back_at_the_end() {
    play(
        settings,
        &[
            ("nothing is there", &[(End, &["remove"])]),
            (
                "closed while being looked up",
                &[
                    (Assign(&[0]), &["look up 0"]),
                    (Close(&[]), &[]),
                    (End, &["assign nothing", "remove"]),
                    (Found(&[0]), &[]),
                ],
            ),
            (
                "closed while one is still being looked up",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0]), &["look up 1", "assigned 0", "add 0"]),
                    (Close(&[0]), &["commit 0"]),
                    (End, &["remove 0"]),
                ],
            ),
            (
                "closed while revoking",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                    (Revoke(&[0]), &["revoke 0"]),
                    (Close(&[0, 1]), &["commit 0 1"]),
                    (End, &["remove 0 1"]),
                ],
            ),
            (
                "left in order",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                    (Leave, &["revoke 0 1"]),
                    (Drained(&[0, 1]), &["commit 0 1"]),
                    (Committed, &["remove 0 1"]),
                    (End, &["remove"]),
                ],
            ),
            (
                "left while revoking: nothing is revoked twice",
                &[
                    (Assign(&[0, 1]), &["look up 0 1"]),
                    (Found(&[0, 1]), &["assigned 0 1", "add 0 1"]),
                    (Revoke(&[0]), &["revoke 0"]),
                    (Leave, &["revoke 1"]),
                    (Drained(&[1]), &["commit 1"]),
                    (Committed, &["remove 1"]),
                    (Wait(6_000), &["remove 0"]),
                ],
            ),
            (
                "left while being looked up; what the group still says is declined",
                &[
                    (Assign(&[0]), &["look up 0"]),
                    (Leave, &["assign nothing"]),
                    (Assign(&[1]), &["assign nothing"]),
                    (Revoke(&[1]), &[]),
                    (Found(&[0]), &[]),
                ],
            ),
        ],
    );
}

#[test]
fn a_lost_partition_goes_on_where_it_was_committed() {
    let mut memory = Memory::new(listing(3));
    let mut stage = Stage::new(settings(), &mut memory);
    stage.partitions.handle_listing(listing(3), stage.now);
    let id = Uuid::from_u128(7);
    stage.topic_id = id;
    for step in [Assign(&[0, 1]), Found(&[0, 1]), Lost(&[0, 1])] {
        stage.step(step);
    }
    // Another client begins.
    stage.partitions.all_lost();
    drop(stage);
    let mut stage = Stage::new(settings(), &mut memory);
    stage.partitions.handle_listing(listing(3), stage.now);
    stage.step(Assign(&[0, 2]));
    let (_, queries) = stage.asked.clone().unwrap();
    let rules: Vec<StartRule> = queries.iter().map(|query| query.rule).collect();
    // The offset is one of that topic, whatever has its name by now.
    let found = StartRule::Found { offset: 5, topic_id: id };
    assert_eq!(rules, [found, StartRule::At(Start::Latest)]);
}

#[test]
fn it_is_ready_once_all_that_is_assigned_is_fetched() {
    let mut memory = Memory::new(listing(3));
    let mut stage = Stage::new(settings(), &mut memory);
    stage.partitions.handle_listing(listing(3), stage.now);
    let partial = AssignmentProgress::Partial("t/1: the start is not known: no answer".to_owned());
    for (step, expected, adds) in [
        (Wait(0), AssignmentProgress::Unknown, 0),
        (Assign(&[0, 1]), AssignmentProgress::Unknown, 0),
        (Found(&[0]), partial, 1),
        (Found(&[1]), AssignmentProgress::Complete, 2),
        (Revoke(&[1]), AssignmentProgress::Complete, 2),
        (Lost(&[0, 1]), AssignmentProgress::Unknown, 2),
        (Assign(&[]), AssignmentProgress::Complete, 3),
        (Leave, AssignmentProgress::Unknown, 3),
    ] {
        stage.step(step);
        let health =
            stage.partitions.poll_health().unwrap_or(stage.partitions.memory.health.clone());
        assert_eq!((health.assignment, health.adds), (expected, Some(adds)), "{step:?}");
    }
    assert!(stage.partitions.poll_health().is_none(), "nothing has changed");
}

#[test]
fn a_corrupt_partition_shows_until_it_goes_on() {
    let mut memory = Memory::new(listing(3));
    let mut stage = Stage::new(settings(), &mut memory);
    stage.partitions.handle_listing(listing(3), stage.now);
    for step in [Assign(&[0]), Found(&[0]), Fetch(0), Corrupt(None)] {
        stage.step(step);
    }
    let corrupt = stage.partitions.poll_health().unwrap().corrupt;
    assert!(corrupt.len() == 1 && corrupt[0].is_current(), "{corrupt:?}");
    stage.step(Restart(0));
    assert!(!corrupt[0].is_current());
}

/// librdkafka reports no assignment that is empty from the beginning.
#[test]
fn a_member_that_is_assigned_nothing_is_ready_after_a_while() {
    let mut memory = Memory::new(listing(3));
    let mut stage = Stage::new(settings(), &mut memory);
    stage.partitions.handle_listing(listing(3), stage.now);
    let checks = |stage: &mut Stage<'_>| {
        let (due, _) = stage.partitions.poll_timeout(stage.now);
        stage.now = stage.now.max(due);
        stage.partitions.handle_timeout(stage.now);
        let mut checks = false;
        while let Some(action) = stage.partitions.poll_action() {
            checks |= matches!(action, Action::CheckMember);
        }
        checks
    };
    let start = stage.now;
    let mut members = 0;
    while !stage.partitions.is_assigned() {
        assert!(stage.now < start + Duration::from_secs(5));
        if checks(&mut stage) {
            // Not a member at first, and once in between.
            let is_member = !matches!(members, 0 | 3);
            members += 1;
            stage.partitions.handle_member(is_member, stage.now);
        }
    }
    assert!(stage.now >= start + Duration::from_millis(1_800), "it has been one for a second");
    assert!(!checks(&mut stage) && !checks(&mut stage), "it is known");
}
