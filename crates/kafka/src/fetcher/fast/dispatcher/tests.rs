use super::super::BrokerEvent;
use super::super::position::ReturnReason;
use super::events::{PLACE_AGAIN, RESET_AGAIN};
use super::replicas::{KEPT, REPLICA_LEASE};
use super::*;
use crate::connection::ConnectionError;
use crate::fetcher::FetchFault;
use crate::metadata::Metadata;
use crate::reset::DueOffset;
use crate::reset::ResetReason;
use crate::topic_partition::TopicPartition;

const ID: Uuid = Uuid::from_u128(7);

fn failed(broker: i32) -> BrokerEvent {
    let error = ConnectionError::new("broker:9092", "no TCP connection").into();
    BrokerEvent::Failed { broker, error }
}

/// A dispatcher whose brokers 1 and 2 are played by the test.
struct Stage {
    dispatcher: Dispatcher,
    now: Instant,
    cluster: Option<String>,
    /// The brokers of tasks, and those whose task was stopped.
    tasks: HashMap<TaskNumber, i32>,
    stopped: Vec<i32>,
    sent: Vec<(i32, BrokerCommand)>,
    faults: VecDeque<FetchFault>,
    reports: Vec<String>,
}

/// Commands to a broker about the partition.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Add {
        offset: i64,
        epoch: i32,
        id: Uuid,
    },
    /// The same as `Add`; the leader is to give the records itself.
    AddWithoutRack {
        offset: i64,
    },
    Return,
    Drop,
    Probe,
}

impl Stage {
    fn new() -> Self {
        let mut dispatcher = Dispatcher::new("test", Duration::from_secs(30));
        let mut tasks = HashMap::new();
        for broker in [1, 2] {
            dispatcher.last_task += 1;
            let number = dispatcher.last_task;
            dispatcher.brokers.insert(broker, BrokerTask { number, address: address(broker) });
            tasks.insert(number, broker);
        }
        let (sent, faults, reports) = (Vec::new(), VecDeque::new(), Vec::new());
        let (now, stopped) = (Instant::now(), Vec::new());
        Self { dispatcher, now, cluster: None, tasks, stopped, sent, faults, reports }
    }

    /// Executes the actions.
    fn act(&mut self) {
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                DispatcherAction::StartBroker { broker, number, .. } => {
                    self.tasks.insert(number, broker);
                }
                DispatcherAction::StopBroker { number } => {
                    self.stopped.extend(self.tasks.remove(&number))
                }
                DispatcherAction::Send { number, command } => {
                    self.sent.extend(self.tasks.get(&number).map(|broker| (*broker, command)));
                }
                DispatcherAction::FetchMetadata { .. } => {}
                DispatcherAction::Fault(fault) => self.faults.push_back(fault),
                DispatcherAction::Report(reason) => self.reports.push(reason),
            }
        }
    }

    fn command(&mut self, command: FetcherCommand) {
        self.dispatcher.handle_command(command, self.now);
    }

    fn event(&mut self, event: BrokerEvent) {
        self.dispatcher.handle_broker_event(event, self.now);
    }

    /// The next fault that was reported.
    fn fault(&mut self) -> Option<FetchFault> {
        self.act();
        self.faults.pop_front()
    }

    /// The commands that a broker was sent.
    fn sent_to(&mut self, broker: i32) -> Vec<BrokerCommand> {
        self.act();
        self.sent.extract_if(.., |(to, _)| *to == broker).map(|(_, command)| command).collect()
    }

    fn add(&mut self, offset: i64) -> Arc<Assignment> {
        let assignment = Assignment::new(TopicPartition::new("t", 0), offset, None);
        self.command(FetcherCommand::Add(vec![FetchPosition::of(&assignment)]));
        assignment
    }

    fn metadata(&mut self, id: Uuid, leader: i32, epoch: i32) {
        let topic = TopicMetadata {
            id,
            error: None,
            leaders: HashMap::from([(0, Leader { broker: leader, epoch })]),
        };
        let brokers = [1, 2].map(|id| (id, address(id))).into();
        self.dispatcher.handle_metadata(Ok(Metadata {
            brokers,
            cluster: self.cluster.clone(),
            topics: HashMap::from([(Arc::from("t"), topic)]),
        }));
    }

    /// Partitions go where they belong; what the broker is told by then.
    fn said(&mut self, broker: i32) -> Vec<Said> {
        self.dispatcher.wants_metadata = false;
        // Later than any pause.
        self.dispatcher.place(self.now + PLACE_AGAIN.longest);
        self.sent_to(broker)
            .into_iter()
            .map(|command| match command {
                BrokerCommand::Add(position) if position.without_rack => {
                    Said::AddWithoutRack { offset: position.offset }
                }
                BrokerCommand::Add(position) => Said::Add {
                    offset: position.offset,
                    epoch: position.leader_epoch,
                    id: position.topic_id,
                },
                BrokerCommand::Return(_) => Said::Return,
                BrokerCommand::Drop(_) => Said::Drop,
                BrokerCommand::Probe => Said::Probe,
            })
            .collect()
    }

    /// Begins the next generation.
    fn seek(&mut self, assignment: &Arc<Assignment>, to: i64) {
        let generation = assignment.reset_to(to, false);
        assignment.set_topic_id(Uuid::nil());
        self.command(FetcherCommand::Seek(Arc::clone(assignment), generation));
    }

    fn returned(&mut self, assignment: &Arc<Assignment>, offset: i64, why: ReturnReason) {
        let generation = assignment.generation();
        let position = FetchPosition {
            last_epoch: 3,
            ..FetchPosition::new(Arc::clone(assignment), generation, offset)
        };
        self.event(BrokerEvent::Returned(position, why));
    }

    /// Returns true if the partition waits for a while, which it does for a reason only.
    fn pauses(&self) -> bool {
        let state = self.dispatcher.partitions.values().next().unwrap();
        matches!(state.place, Placement::Unassigned { why: Some(_), .. })
    }
}

fn address(id: i32) -> String {
    format!("broker-{id}:9092")
}

fn not_leader(leader: Option<(i32, i32)>) -> ReturnReason {
    ReturnReason::NotLeader { error: Code::NotLeaderOrFollower, leader }
}

#[test]
fn a_partition_goes_where_its_leader_is() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    assert!(stage.dispatcher.wants_metadata);
    assert!(stage.said(1).is_empty() && stage.dispatcher.wants_metadata, "nothing is known yet");
    stage.metadata(ID, 1, 4);
    assert_eq!(stage.said(1), [Said::Add { offset: 10, epoch: 4, id: ID }]);
    assert!(!stage.dispatcher.wants_metadata);

    // Asked back, and only then given to the other one, from where it was.
    stage.metadata(ID, 2, 5);
    assert_eq!(stage.said(1), [Said::Return]);
    assert_eq!(stage.said(2), []);
    stage.returned(&assignment, 25, ReturnReason::Requested);
    assert_eq!(stage.said(2), [Said::Add { offset: 25, epoch: 5, id: ID }]);

    // What the cluster said before is not believed.
    stage.metadata(ID, 1, 4);
    assert_eq!(stage.said(2), []);
    stage.command(FetcherCommand::Remove(vec![assignment]));
    assert_eq!(stage.said(2), [Said::Drop]);
}

#[test]
fn a_broker_that_is_not_the_leader_may_tell_who_is() {
    for (told, asks, next) in
        [(None, true, vec![]), (Some((2, 5)), false, vec![(25, 5)]), (Some((2, 3)), true, vec![])]
    {
        let mut stage = Stage::new();
        let assignment = stage.add(10);
        stage.metadata(ID, 1, 4);
        stage.said(1);
        stage.returned(&assignment, 25, not_leader(told));
        assert!(stage.pauses() && stage.dispatcher.wants_metadata);
        let said = stage.said(2);
        let next: Vec<_> =
            next.into_iter().map(|(offset, epoch)| Said::Add { offset, epoch, id: ID }).collect();
        assert_eq!((said, stage.dispatcher.wants_metadata), (next, asks), "{told:?}");
    }
}

#[test]
fn a_leader_that_the_cluster_does_not_have_is_not_waited_for() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.returned(&assignment, 25, not_leader(Some((77, i32::MAX))));
    assert_eq!(stage.said(1), []);
    stage.metadata(ID, 1, 6);
    assert_eq!(stage.said(1), [Said::Add { offset: 25, epoch: 6, id: ID }]);
}

#[test]
fn what_was_released_does_not_come_back() {
    let mut stage = Stage::new();
    let old = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.command(FetcherCommand::Remove(vec![Arc::clone(&old)]));
    stage.returned(&old, 20, ReturnReason::Requested);
    assert!(stage.dispatcher.partitions.is_empty());
    stage.seek(&old, 5);
    assert!(stage.dispatcher.partitions.is_empty());
    // Nor does it disturb the next assignment of the same partition.
    stage.add(30);
    stage.metadata(ID, 1, 4);
    assert_eq!(stage.said(1), [Said::Drop, Said::Add { offset: 30, epoch: 4, id: ID }]);
    stage.returned(&old, 20, ReturnReason::OutOfRange);
    assert!(stage.fault().is_none());
    assert_eq!(stage.said(1), []);
}

#[test]
fn a_server_that_tells_of_an_earlier_life_is_left() {
    let anew = Uuid::from_u128(8);
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.metadata(anew, 2, 0);
    stage.said(1);
    stage.returned(&assignment, 25, not_leader(None));
    assert!(matches!(
        stage.fault(),
        Some(FetchFault::ResetNeeded { reason: ResetReason::Recreated, .. })
    ));
    stage.seek(&assignment, 0);
    assert_eq!(stage.said(2), [Said::Add { offset: 0, epoch: 0, id: anew }]);
    assert!(!stage.dispatcher.distrusted);
    // It has lost touch with the cluster: neither the id nor the leader is believed.
    stage.metadata(ID, 1, 4);
    assert!(stage.dispatcher.distrusted && stage.dispatcher.wants_metadata);
    assert_eq!((stage.said(1), stage.said(2)), (vec![], vec![]));
    assert!(stage.fault().is_none(), "it is not recreated");
    assert_eq!(
        stage.dispatcher.topics[assignment.topic()].id,
        anew,
        "nor are other partitions told so"
    );
}

#[test]
fn an_offset_of_an_earlier_life_is_none_of_the_present_topic() {
    let now = Uuid::from_u128(8);
    for has_other in [false, true] {
        let mut stage = Stage::new();
        if has_other {
            // Another partition, by which the topic is known.
            let other = Assignment::new(TopicPartition::new("t", 1), 0, None);
            stage.command(FetcherCommand::Add(vec![FetchPosition::of(&other)]));
            stage.metadata(now, 1, 4);
            stage.said(1);
        }
        let assignment = Assignment::new(TopicPartition::new("t", 0), 10, None);
        assignment.set_topic_id(ID);
        stage.command(FetcherCommand::Add(vec![FetchPosition::of(&assignment)]));
        assert_eq!(stage.said(1), [], "it is not known where it is");
        stage.metadata(now, 1, 4);
        assert!(matches!(
            stage.fault(),
            Some(FetchFault::ResetNeeded {
                due: DueOffset { offset: 10, .. },
                reason: ResetReason::Recreated,
                ..
            })
        ));
        stage.seek(&assignment, 3);
        assert_eq!(stage.said(1), [Said::Add { offset: 3, epoch: 4, id: now }]);
        assert_eq!(assignment.topic_id(), now);
    }
}

#[test]
fn one_server_that_lost_touch_is_outvoted_by_the_others() {
    let (stale, now) = (ID, Uuid::from_u128(8));
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(now, 1, 0);
    stage.said(1);
    // It is believed, for nothing tells which of two ids is the later one.
    stage.metadata(stale, 1, 4);
    stage.said(1);
    stage.returned(&assignment, 25, not_leader(None));
    stage.fault();
    stage.seek(&assignment, 0);
    stage.said(1);
    for answer in 0..4 {
        assert!(stage.fault().is_none(), "after {answer} answers");
        stage.metadata(now, 1, 0);
        assert!(stage.dispatcher.distrusted, "each is of another server");
    }
    stage.said(1);
    stage.returned(&assignment, 0, not_leader(None));
    assert!(matches!(
        stage.fault(),
        Some(FetchFault::ResetNeeded { reason: ResetReason::Recreated, .. })
    ));
    stage.seek(&assignment, 3);
    assert_eq!(stage.said(1), [Said::Add { offset: 3, epoch: 0, id: now }]);
}

#[test]
fn a_server_that_names_a_leader_that_is_none_twice_is_left() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    for again in [false, true] {
        stage.metadata(ID, 1, 4);
        assert_eq!(stage.said(1), [Said::Add { offset: 10, epoch: 4, id: ID }]);
        stage.returned(&assignment, 10, not_leader(None));
        assert_eq!(stage.dispatcher.distrusted, again);
    }
    stage.dispatcher.distrusted = false;
    // Another one is no sign of that.
    stage.metadata(ID, 2, 5);
    assert_eq!(stage.said(2), [Said::Add { offset: 10, epoch: 5, id: ID }]);
    stage.returned(&assignment, 10, not_leader(None));
    assert!(!stage.dispatcher.distrusted);
}

#[test]
fn a_partition_that_is_reset_again_and_again_waits_longer_and_longer() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    let mut pauses = Vec::new();
    for at in 0..10 {
        let why = if at % 2 == 0 { ReturnReason::OutOfRange } else { ReturnReason::Diverged(3) };
        stage.returned(&assignment, 5, why);
        assert!(stage.fault().is_some());
        stage.seek(&assignment, 3);
        let state = stage.dispatcher.partitions.values().next().unwrap();
        assert!(matches!(state.place, Placement::Unassigned { .. }));
        pauses.push(state.reset_pause().0);
        stage.dispatcher.place(stage.now + RESET_AGAIN.longest);
    }
    assert_eq!(
        (pauses[0], pauses[1], pauses[9]),
        (Duration::ZERO, 2 * RESET_AGAIN.first, RESET_AGAIN.longest)
    );
    assert!(pauses.is_sorted(), "{pauses:?}");
}

#[test]
fn who_leads_no_more_is_not_believed_that_the_log_was_cut() {
    for why in [ReturnReason::OutOfRange, ReturnReason::Diverged(7)] {
        let mut stage = Stage::new();
        let assignment = stage.add(10);
        stage.metadata(ID, 1, 4);
        stage.said(1);
        stage.metadata(ID, 2, 5);
        assert_eq!(stage.said(1), [Said::Return]);
        stage.returned(&assignment, 25, why);
        assert!(stage.fault().is_none());
        assert_eq!(stage.said(2), [Said::Add { offset: 25, epoch: 5, id: ID }]);
    }
}

#[test]
fn another_leader_is_told_the_epoch_that_one_did_not_know() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    let doubted = |stage: &mut Stage, broker: i32| {
        stage.dispatcher.place(stage.now + PLACE_AGAIN.longest);
        let sent = stage.sent_to(broker);
        let [BrokerCommand::Add(position)] = &sent[..] else { panic!("{sent:?}") };
        position.doubted
    };
    let position = FetchPosition {
        last_epoch: 3,
        doubted: 3,
        leader_epoch: 4,
        ..FetchPosition::of(&assignment)
    };
    stage.event(BrokerEvent::Returned(position.clone(), ReturnReason::Requested));
    assert_eq!(doubted(&mut stage, 1), 3);
    stage.event(BrokerEvent::Returned(position, not_leader(Some((2, 5)))));
    assert_eq!(doubted(&mut stage, 2), -1);
}

#[test]
fn a_restart_takes_the_place_of_what_is_fetched() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    let (old, now) =
        (FetchPosition::new(Arc::clone(&assignment), assignment.generation(), 30), stage.now);
    let restarted = assignment.restart(0, 12).unwrap();
    stage.command(FetcherCommand::Seek(Arc::clone(&assignment), restarted));
    assert_eq!(stage.said(1), [Said::Drop, Said::Add { offset: 12, epoch: 4, id: ID }]);
    // Twice it is none.
    stage.command(FetcherCommand::Seek(Arc::clone(&assignment), restarted));
    // Nor does what was given back before the broker heard of it count.
    for why in [ReturnReason::Requested, ReturnReason::OutOfRange, ReturnReason::Diverged(7)] {
        stage.event(BrokerEvent::Returned(old.clone(), why));
    }
    assert_eq!(stage.said(1), []);
    stage.dispatcher.is_asking = true;
    assert!(stage.fault().is_none() && stage.dispatcher.poll_timeout(now).0 > now);

    // While an offset is looked up: what comes of that is of the generation before.
    stage.returned(&assignment, 25, ReturnReason::OutOfRange);
    let Some(FetchFault::OutOfRange { due, .. }) = stage.fault() else { panic!("not told") };
    assert!(due.is_now());
    let restarted = assignment.restart(1, 12).unwrap();
    assert!(!due.is_now());
    stage.command(FetcherCommand::Seek(assignment, restarted));
    assert_eq!(stage.said(1), [Said::Add { offset: 12, epoch: 4, id: ID }]);
}

/// A position that is kept would be taken for the truth at the next assignment, when the topic may
/// have been recreated.
#[test]
fn a_topic_that_nobody_holds_is_forgotten() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.command(FetcherCommand::Remove(vec![assignment]));
    assert!(stage.dispatcher.topics.is_empty());
    // Asked for before that.
    stage.metadata(ID, 1, 4);
    assert!(stage.dispatcher.topics.is_empty());
}

#[test]
fn an_offset_that_is_not_there_is_looked_up() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.returned(&assignment, 25, ReturnReason::OutOfRange);
    assert!(matches!(
        stage.fault(),
        Some(FetchFault::OutOfRange { due: DueOffset { offset: 25, .. }, .. })
    ));
    assert_eq!(stage.said(1), []);
    stage.seek(&assignment, 40);
    assert!(!stage.dispatcher.wants_metadata, "its leader is known");
    assert_eq!(stage.said(1), [Said::Add { offset: 40, epoch: 4, id: ID }]);

    stage.returned(&assignment, 50, ReturnReason::Diverged(45));
    let command = stage.fault();
    assert!(
        matches!(
            command,
            Some(FetchFault::ResetNeeded {
                due: DueOffset { offset: 50, .. },
                to: Some(45),
                reason: ResetReason::Truncated
            })
        ),
        "{command:?}"
    );
}

#[test]
fn a_topic_made_anew_is_read_from_its_start() {
    let anew = Uuid::from_u128(8);
    let is_told = |stage: &mut Stage, offset| {
        matches!(
            stage.fault(),
            Some(FetchFault::ResetNeeded { due, to: None, reason: ResetReason::Recreated })
                if due.offset == offset
        )
    };
    // While it is fetched.
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.metadata(anew, 2, 0);
    assert_eq!(stage.said(1), [Said::Return]);
    stage.returned(&assignment, 25, not_leader(None));
    assert!(is_told(&mut stage, 25));
    stage.seek(&assignment, 0);
    assert_eq!(stage.said(2), [Said::Add { offset: 0, epoch: 0, id: anew }]);

    // While it waits.
    let third = Uuid::from_u128(9);
    stage.returned(&assignment, 5, not_leader(None));
    stage.metadata(third, 1, 0);
    assert!(is_told(&mut stage, 5));
    stage.seek(&assignment, 0);
    assert_eq!(stage.said(1), [Said::Add { offset: 0, epoch: 0, id: third }]);

    // While an offset of the old one is looked up.
    stage.returned(&assignment, 9, ReturnReason::Diverged(7));
    assert!(matches!(stage.fault(), Some(FetchFault::ResetNeeded { to: Some(7), .. })));
    let fourth = Uuid::from_u128(10);
    stage.metadata(fourth, 1, 0);
    stage.seek(&assignment, 7);
    assert!(is_told(&mut stage, 7));
    assert_eq!(stage.said(1), []);
    stage.seek(&assignment, 0);
    assert_eq!(stage.said(1), [Said::Add { offset: 0, epoch: 0, id: fourth }]);

    // While the start of the new one is looked up, the route has it read again from an offset of
    // the old one.
    stage.returned(&assignment, 4, not_leader(None));
    let fifth = Uuid::from_u128(11);
    stage.metadata(fifth, 1, 0);
    assert!(is_told(&mut stage, 4));
    let restarted = assignment.restart(assignment.generation().number, 2).unwrap();
    stage.command(FetcherCommand::Seek(Arc::clone(&assignment), restarted));
    assert!(is_told(&mut stage, 2));
    assert_eq!(stage.said(1), []);
    stage.seek(&assignment, 0);
    assert_eq!(stage.said(1), [Said::Add { offset: 0, epoch: 0, id: fifth }]);
}

#[test]
fn a_nearer_replica_is_fetched_from_as_long_as_it_serves() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.event(BrokerEvent::Connected(2));
    stage.returned(&assignment, 10, ReturnReason::PreferredReplica(2));
    assert_eq!(stage.said(2), [Said::Add { offset: 10, epoch: 4, id: ID }]);
    // The leader is another one than where it is fetched, and that is as it should be.
    stage.metadata(ID, 1, 4);
    assert_eq!(stage.said(2), []);
    stage.event(failed(2));
    assert_eq!(stage.said(2), [Said::Return]);
    stage.returned(&assignment, 20, ReturnReason::Requested);
    assert_eq!(
        stage.said(1),
        [Said::AddWithoutRack { offset: 20 }],
        "it stands in for the replica"
    );
}

/// A replica that a leader names for as long as it is in sync, though no client may reach it.
#[test]
fn a_replica_that_does_not_answer_keeps_no_partition_from_its_leader() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.returned(&assignment, 10, ReturnReason::PreferredReplica(2));
    assert!(!stage.pauses());
    assert_eq!(stage.said(2), [Said::Probe]);
    assert_eq!(stage.said(1), [Said::AddWithoutRack { offset: 10 }]);
    // It is given up for a while, and then the leader is asked which one is preferred now.
    stage.event(failed(2));
    let now = stage.now;
    stage.dispatcher.place(now);
    stage.dispatcher.asked = Some(now);
    assert!(stage.dispatcher.poll_timeout(now).0 > now, "it is not due at once");
    assert_eq!(stage.said(1), []);
    stage.dispatcher.place(now + KEPT);
    assert_eq!(stage.said(1), [Said::Return]);
    stage.returned(&assignment, 30, ReturnReason::Requested);
    assert_eq!(stage.said(1), [Said::Add { offset: 30, epoch: 4, id: ID }]);
    stage.returned(&assignment, 30, ReturnReason::PreferredReplica(2));
    assert_eq!(stage.said(1), [Said::AddWithoutRack { offset: 30 }], "it has failed a moment ago");
    assert_eq!(stage.said(2), []);
}

#[test]
fn a_replica_that_answers_is_fetched_from_without_a_gap() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    stage.returned(&assignment, 10, ReturnReason::PreferredReplica(2));
    stage.said(1);
    assert_eq!(stage.said(2), [Said::Probe]);
    stage.event(BrokerEvent::Connected(2));
    stage.dispatcher.place(stage.now);
    assert_eq!(stage.said(1), [Said::Return]);
    stage.returned(&assignment, 20, ReturnReason::Requested);
    assert_eq!(stage.said(1), [Said::Add { offset: 20, epoch: 4, id: ID }]);
    stage.returned(&assignment, 20, ReturnReason::PreferredReplica(2));
    assert_eq!(stage.said(2), [Said::Add { offset: 20, epoch: 4, id: ID }]);
    // The end of its lease is not the end of its being a replica: what it says is no leader's word
    // until it is back.
    stage.dispatcher.place(stage.now + REPLICA_LEASE);
    assert_eq!(stage.said(2), [Said::Return]);
    stage.returned(&assignment, 25, ReturnReason::OutOfRange);
    assert!(stage.fault().is_none());
    assert_eq!(stage.said(1), [Said::AddWithoutRack { offset: 25 }]);
}

/// A broker and the dispatcher do not send a partition back and forth as fast as they can.
#[test]
fn in_the_place_of_a_replica_that_is_of_no_use_the_leader_serves() {
    for (first, then, asks) in [
        (ReturnReason::PreferredReplica(9), None, true),
        (ReturnReason::PreferredReplica(1), None, false),
        (ReturnReason::PreferredReplica(2), Some(ReturnReason::OutOfRange), false),
        (ReturnReason::PreferredReplica(2), Some(ReturnReason::Diverged(5)), false),
        (ReturnReason::PreferredReplica(2), Some(ReturnReason::PreferredReplica(1)), false),
    ] {
        let mut stage = Stage::new();
        let assignment = stage.add(10);
        stage.metadata(ID, 1, 4);
        stage.said(1);
        stage.event(BrokerEvent::Connected(2));
        stage.returned(&assignment, 10, first.clone());
        if let Some(then) = then {
            stage.said(2);
            stage.returned(&assignment, 10, then);
        }
        assert_eq!(stage.dispatcher.wants_metadata, asks, "{first:?}");
        assert_eq!(stage.said(1), [Said::AddWithoutRack { offset: 10 }], "{first:?}");
        assert!(stage.fault().is_none());
        // A leader that names one though it was not told our rack is not asked as fast as it
        // answers.
        stage.returned(&assignment, 10, ReturnReason::PreferredReplica(2));
        assert!(stage.pauses(), "{first:?}");
    }
}

#[test]
fn the_task_of_a_broker_that_moved_ends() {
    let mut stage = Stage::new();
    stage.add(10);
    stage.metadata(ID, 1, 4);
    stage.said(1);
    let brokers = HashMap::from([(1, "elsewhere:9092".to_owned()), (2, address(2))]);
    stage.dispatcher.handle_metadata(Ok(Metadata {
        brokers,
        cluster: None,
        topics: HashMap::new(),
    }));
    stage.act();
    assert_eq!(stage.stopped, [1]);
}

#[test]
fn nothing_is_due_at_once_for_ever() {
    let mut stage = Stage::new();
    stage.add(10);
    let now = stage.now;
    stage.dispatcher.asked = Some(now);
    stage.dispatcher.place(now);
    assert!(stage.dispatcher.poll_timeout(now).0 > now, "no leader is known");
    stage.metadata(ID, -1, 4);
    stage.dispatcher.place(now);
    assert!(stage.dispatcher.poll_timeout(now).0 > now, "there is no leader");
    stage.metadata(ID, 1, 5);
    stage.dispatcher.place(now);
    assert_eq!(stage.said(1).len(), 1);
    assert!(stage.dispatcher.poll_timeout(now).0 > now + Duration::from_secs(10), "all is well");
}

#[test]
fn the_partitions_of_a_task_that_panicked_are_fetched_anew_from_where_they_were() {
    let mut stage = Stage::new();
    let assignment = stage.add(10);
    stage.metadata(ID, 1, 4);
    assert_eq!(stage.said(1), [Said::Add { offset: 10, epoch: 4, id: ID }]);
    assignment.reading().set_position(0, 25);
    let panicked = Panicked::new("the task of a broker", &"a mistake");
    stage.dispatcher.handle_panic(1, &panicked, stage.now);
    assert!(stage.pauses() && !stage.dispatcher.brokers.contains_key(&1));
    // Another task fetches from the broker.
    assert_eq!(stage.said(1), [Said::Add { offset: 25, epoch: 4, id: ID }]);
    assert_eq!(stage.reports, [panicked.to_string()]);
}

#[test]
fn another_cluster_is_no_topic_made_anew() {
    let mut stage = Stage::new();
    stage.add(50);
    stage.cluster = Some("one".to_owned());
    stage.metadata(ID, 1, 3);
    stage.cluster = Some("two".to_owned());
    stage.metadata(Uuid::from_u128(8), 1, 0);
    stage.act();
    let faults = Vec::from(stage.faults);
    assert!(matches!(&faults[..], [FetchFault::OtherCluster(id)] if id == "two"), "{faults:?}");
}
