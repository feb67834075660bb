//! Several relays in one group, and what a group does to a relay.

use std::collections::{BTreeMap, BTreeSet};

use zafka_testkit::wait::wait_for;
use zafka_testkit::{KafkaNode, Kind, LibzmqSub, Peer, Sequence, Session, unique, wait_until};

use crate::common::{Fetcher, OneRoute, counter, partition};
use crate::flow::{
    Committed, Subscriber, ends, expecting, flood, held, load, sessions, wait_records, wait_stuck,
    wait_subscribed,
};
use crate::{DEADLINE, decoded};

/// A topic, and a group of its name that keeps a member's place for the least time that the node
/// allows.
fn topic(name: &str, partitions: i32) -> String {
    topic_of_group(name, partitions, 6)
}

/// Makes a topic as [`topic`] does, with a session timeout in seconds.
fn topic_of_group(name: &str, partitions: i32, session_timeout: u32) -> String {
    let topic = unique(name);
    let admin = KafkaNode::shared().admin();
    admin.create_topic(&topic, partitions, &[]);
    admin.set_session_timeout(&topic, session_timeout);
    topic
}

/// A relay in the group named as the topic, with more keys of `from.kafka`.
fn member(fetcher: Fetcher, topic: &str, more: &str) -> OneRoute {
    let from =
        format!(r#"topics = ["{topic}"], group = "{topic}", start = "earliest", {fetcher}{more}"#);
    OneRoute::lossless(KafkaNode::shared().bootstrap(), &from)
}

/// Waits until each relay holds its share, and together they hold every partition.
fn wait_divided(relays: &mut [&mut OneRoute], shares: &[usize]) -> Vec<BTreeSet<i32>> {
    wait_for("the partitions to be divided", 2 * DEADLINE, || {
        let held: Option<Vec<_>> =
            relays.iter().map(|relay| relay.relay.status().map(|status| held(&status))).collect();
        let held = held?;
        let mut counts: Vec<_> = held.iter().map(BTreeSet::len).collect();
        counts.sort_unstable();
        let all: BTreeSet<i32> = held.iter().flatten().copied().collect();
        (counts == shares && all.len() == shares.iter().sum::<usize>()).then_some(held)
    })
}

/// A relay with a SUB of its own.
struct Pair {
    route: OneRoute,
    subscriber: LibzmqSub,
}

impl Pair {
    fn new(fetcher: Fetcher, topic: &str, protocol: &str) -> Self {
        let route = member(fetcher, topic, &format!(r#", group_protocol = "{protocol}""#));
        let subscriber = route.subscribe(&[topic]);
        Self { route, subscriber }
    }
}

/// Two relays share a topic under load, a third joins, and one of the three is killed. A subscriber
/// is connected to all of them.
fn divided_joined_and_killed(fetcher: Fetcher, protocol: &str) {
    let admin = KafkaNode::shared().admin();
    let topic = topic(protocol, 6);
    let [mut one, mut two] =
        [Pair::new(fetcher, &topic, protocol), Pair::new(fetcher, &topic, protocol)];
    let shares = wait_divided(&mut [&mut one.route, &mut two.route], &[3, 3]);

    // A third joins: what the others keep goes on.
    let joining = load(&topic, 6, 30_000, 3_000);
    let writing = admin.produce_in_background(joining.clone());
    wait_until("records to flow", DEADLINE, || {
        one.subscriber.count().min(two.subscriber.count()) > 1_000
    });
    let mut three = Pair::new(fetcher, &topic, protocol);
    let thirds = wait_divided(&mut [&mut one.route, &mut two.route, &mut three.route], &[2, 2, 2]);
    let produced_joining = writing.join();
    let mut checker = expecting(&[(&joining, &produced_joining)]);
    let subscribers: [&dyn Subscriber; 3] = [&one.subscriber, &two.subscriber, &three.subscriber];
    let received = wait_records(&subscribers, 30_000);
    for (relay, (messages, (had, has))) in
        [&one, &two].iter().zip(received.iter().zip(shares.iter().zip(&thirds)))
    {
        assert!(has.is_subset(had), "{had:?} became {has:?}");
        assert!(
            !relay.route.relay.log().contains("partitions lost"),
            "{}",
            relay.route.relay.log()
        );
        // One assignment for each that was ever held, kept or not.
        let take_ups = messages.iter().filter(|message| message.prev.is_none()).count();
        assert_eq!(take_ups, had.len());
    }
    // What was given back had been delivered and committed: nothing comes twice.
    assert_eq!(received.iter().map(Vec::len).sum::<usize>(), 30_000);
    assert_eq!(
        checker.missing(&received.iter().cloned().map(Session::new).collect::<Vec<_>>()),
        [""; 0]
    );

    // One is killed under load: the others take over from what was committed.
    let killed = Sequence { first: 30_000, ..load(&topic, 6, 40_000, 3_000) };
    let writing = admin.produce_in_background(killed.clone());
    let before = two.subscriber.count();
    wait_until("records to flow", DEADLINE, || two.subscriber.count() > before + 1_000);
    two.route.relay.kill9();
    let floor = admin.committed(&topic);
    wait_divided(&mut [&mut one.route, &mut three.route], &[3, 3]);
    checker.expect_sequence(&killed, &writing.join());
    let subscribers: [&dyn Subscriber; 3] = [&one.subscriber, &two.subscriber, &three.subscriber];
    let received = wait_records(&subscribers, 70_000);
    // The killed one's partitions were never held by the others before.
    let moved: Committed =
        floor.into_iter().filter(|((_, number), _)| thirds[1].contains(number)).collect();
    let floors = [moved.clone(), Committed::new(), moved];
    let all = received.into_iter().zip(floors).flat_map(|(messages, floor)| {
        // A partition may be given from one of them to the other once more.
        sessions(messages, &[floor.clone(), floor.clone(), floor])
    });
    checker.assert(&all.collect::<Vec<_>>());
}

on_both_fetchers!(partitions_are_divided_joined_for_and_taken_over, "needs Java and Maven");
fn partitions_are_divided_joined_for_and_taken_over(fetcher: Fetcher) {
    divided_joined_and_killed(fetcher, "consumer");
}

/// Tests one fetcher alone: most of its minute is the session timeout of 45 s.
#[test]
#[ignore = "needs Java and Maven"]
fn partitions_are_divided_joined_for_and_taken_over_by_the_classic_protocol() {
    divided_joined_and_killed(Fetcher::Fast, "classic");
}

on_both_fetchers!(
    a_group_is_of_the_new_protocol_unless_it_has_classic_members,
    "needs Java and Maven"
);
fn a_group_is_of_the_new_protocol_unless_it_has_classic_members(fetcher: Fetcher) {
    let admin = KafkaNode::shared().admin();
    for (first, kind) in [("", "Consumer"), (r#", group_protocol = "classic""#, "Classic")] {
        let topic = topic("kinds", 2);
        let mut one = member(fetcher, &topic, first);
        wait_divided(&mut [&mut one], &[2]);
        let mut two = member(fetcher, &topic, "");
        wait_divided(&mut [&mut one, &mut two], &[1, 1]);
        let group = admin.group(&topic).unwrap();
        assert_eq!((group.kind.as_str(), group.members.len()), (kind, 2), "{group:?}");
        assert_eq!(admin.groups().get(&topic).map(String::as_str), Some(kind));
    }
}

/// A static member that comes back in time has what it had, and the other member notices nothing.
fn restarted_static_member(fetcher: Fetcher, protocol: &str) {
    let admin = KafkaNode::shared().admin();
    // It comes back in time, however slow the machine.
    let topic = topic_of_group("static", 4, 60);
    let mut relays = ["a", "b"].map(|name| {
        member(
            fetcher,
            &topic,
            &format!(r#", group_protocol = "{protocol}", instance = "{topic}-{name}""#),
        )
    });
    let subscribers = relays.each_ref().map(|relay| relay.subscribe(&[&topic]));
    let [one, two] = &mut relays;
    let shares = wait_divided(&mut [one, two], &[2, 2]);
    let records = load(&topic, 4, 20_000, 2_000);
    let writing = admin.produce_in_background(records.clone());
    wait_until("records to flow", DEADLINE, || subscribers.iter().all(|s| s.count() > 500));
    let before = two.relay.status().expect("it runs");
    one.relay.terminate();
    assert!(one.relay.wait_exit(DEADLINE).success(), "{}", one.relay.log());
    let floor = admin.committed(&topic);
    one.start_again();
    assert_eq!(wait_divided(&mut [one, two], &[2, 2]), shares);
    let after = two.relay.status().expect("it runs");
    assert_eq!(counter(&before, "rebalances"), counter(&after, "rebalances"));
    let produced = writing.join();
    let [first, second] = [&subscribers[0], &subscribers[1]];
    let mut received = wait_records(&[first, second], 20_000);
    // What was delivered was committed, so nothing came twice.
    assert_eq!(received.iter().map(Vec::len).sum::<usize>(), 20_000);
    let mut all = sessions(received.remove(0), &[Committed::new(), floor]);
    all.push(Session::new(received.remove(0)));
    expecting(&[(&records, &produced)]).assert(&all);
}

on_both_fetchers!(a_static_member_keeps_its_partitions_over_a_restart, "needs Java and Maven");
fn a_static_member_keeps_its_partitions_over_a_restart(fetcher: Fetcher) {
    restarted_static_member(fetcher, "consumer");
}

on_both_fetchers!(
    a_static_member_keeps_its_partitions_over_a_restart_by_the_classic_protocol,
    "needs Java and Maven"
);
fn a_static_member_keeps_its_partitions_over_a_restart_by_the_classic_protocol(fetcher: Fetcher) {
    restarted_static_member(fetcher, "classic");
}

on_both_fetchers!(a_static_member_that_was_killed_waits_for_its_place, "needs Java and Maven");
fn a_static_member_that_was_killed_waits_for_its_place(fetcher: Fetcher) {
    let admin = KafkaNode::shared().admin();
    // It comes while its place is held.
    let topic = topic_of_group("killed", 2, 15);
    let mut route = member(
        fetcher,
        &topic,
        &format!(r#", group_protocol = "consumer", instance = "{topic}-a""#),
    );
    let subscriber = route.subscribe(&[&topic]);
    let before = Sequence { partitions: vec![0, 1], ..Sequence::new(&topic, 1_000) };
    let mut checker = expecting(&[(&before, &admin.produce_sequence(&before))]);
    subscriber.wait_messages(1_000, DEADLINE);
    route.relay.kill9();
    let floor = admin.committed(&topic);
    route.start_again();
    route.relay.wait_log("the group still has a member", DEADLINE);
    let (_, body) = route.relay.get("/readyz").unwrap();
    assert!(body.contains(&format!("{topic}-a")), "{body}");
    let after = Sequence { first: 1_000, ..before.clone() };
    checker.expect_sequence(&after, &admin.produce_sequence(&after));
    let received = wait_records(&[&subscriber], 2_000).remove(0);
    checker.assert(&sessions(received, &[Committed::new(), floor]));
    route.relay.wait_ready();
    // It ends while it waits as well.
    route.start_again();
    route.relay.wait_log("the group still has a member", DEADLINE);
    route.relay.terminate();
    assert!(route.relay.wait_exit(DEADLINE).success(), "{}", route.relay.log());
}

on_both_fetchers!(
    a_stuck_partition_is_given_back_after_the_revoke_timeout,
    "needs Java and Maven, and Python"
);
fn a_stuck_partition_is_given_back_after_the_revoke_timeout(fetcher: Fetcher) {
    let admin = KafkaNode::shared().admin();
    let topic = topic("stuck", 2);
    let from = format!(
        "topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\", \
         revoke_timeout = \"1s\", {fetcher}"
    );
    let to = r#"slow_peer = "block", min_peers = 1, ring_bytes = "8 MiB""#;
    let bootstrap = KafkaNode::shared().bootstrap();
    let mut stuck = OneRoute::start(bootstrap, &from, to);
    let mut stopped = Peer::spawn(Kind::Python, stuck.endpoint(), &[&topic], 0);
    wait_subscribed(&mut stuck.relay, 0, 1);
    stopped.stop();
    let records = flood(&topic, 2, 16_000);
    let writing = admin.produce_in_background(records.clone());
    let status = wait_stuck(&mut stuck.relay, 0);
    let produced = writing.join();

    let mut other = OneRoute::start(bootstrap, &from, to);
    let subscriber = other.subscribe(&[&topic]);
    let shares = wait_divided(&mut [&mut stuck, &mut other], &[1, 1]);
    let given = *shares[1].first().expect("it has one");
    let read = partition(&status, &topic, given)["read"].as_i64().unwrap();
    let floor = partition(&status, &topic, given)["committed"].as_i64().unwrap();
    let half = subscriber.wait_messages(8_000 - floor as usize, DEADLINE);
    assert_eq!(decoded(&half)[0].offset, floor, "the other goes on from what was delivered");

    stopped.cont();
    let received = wait_records(&[&stopped, &subscriber], 16_000);
    // What was in the ring of the partition given back was taken out; a chunk was half written at
    // the most.
    let end = ends(&received[0])[&(topic.clone(), given)];
    assert!((floor..read).contains(&end), "delivered {floor}, sent {end}, read {read}");
    let floors = [Committed::new(), BTreeMap::from([((topic, given), floor)])];
    let all = received.into_iter().zip(floors);
    let all: Vec<_> = all.map(|(messages, floor)| Session::above(messages, floor)).collect();
    expecting(&[(&records, &produced)]).assert(&all);
}
