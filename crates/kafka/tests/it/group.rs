//! Reading in a group.

use std::time::{Duration, Instant};

use zafka_kafka::config::{FetcherKind, GroupProtocol, SourceConfig, Start};

use crate::route::{Route, broker, cluster, config, numbers, write};

/// The mock's classic groups take a session timeout (45 s) for each rebalance but the first, and on
/// a busy machine even a lone client joins twice. So the other protocol is tested here, and both
/// against a real Kafka.
pub const REBALANCES: GroupProtocol = GroupProtocol::Consumer;

fn member(fetching: FetcherKind, topics: &[&str], start: Start) -> SourceConfig {
    config(fetching, topics, Some(("g", REBALANCES)), start)
}

on_both_fetchers!(goes_on_from_what_was_committed);
async fn goes_on_from_what_was_committed(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 1)]);
    let cluster = cluster(&broker.bootstrap());
    write(&producer, "orders", 0, 0..100);
    let mut route = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    route.until("100 records", |route| route.records.len() == 100).await;
    assert_eq!(route.values(), numbers(0..100));
    assert_eq!(
        route.held[0].committed(),
        Some(0),
        "the start is committed before its first record"
    );
    let (assignment, _) = route.positions()[0].clone();
    route.source.commit(vec![(assignment.clone(), 40)]);
    route.until("a commit", |_| assignment.committed() == Some(40)).await;
    route.source.commit(vec![(assignment.clone(), 30)]);
    route.source.commit(vec![(assignment.clone(), 60)]);
    route.until("a second commit", |_| assignment.committed() == Some(60)).await;
    route.close_at(vec![(assignment, 70)]).await;

    let mut route = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    route.until("the rest", |route| route.records.len() == 30).await;
    assert_eq!(route.values(), numbers(70..100));
    assert_eq!(route.source.status().commits_failed, 0);
    route.close().await;
}

on_both_fetchers!(latest_begins_at_the_end_and_is_committed);
async fn latest_begins_at_the_end_and_is_committed(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 2)]);
    let cluster = cluster(&broker.bootstrap());
    write(&producer, "orders", 0, 0..10);
    let latest = || member(fetching, &["orders"], Start::Latest);
    let mut route = Route::start(&cluster, latest());
    route.until("an assignment", |route| route.held.len() == 2).await;
    let starts: Vec<_> =
        route.held.iter().map(|held| (held.partition(), held.start, held.committed())).collect();
    assert!(starts.contains(&(0, 10, Some(10))) && starts.contains(&(1, 0, Some(0))), "{starts:?}");
    // Nothing read, nothing committed by the route: what is written now is not skipped by the next.
    route.close_at(Vec::new()).await;
    write(&producer, "orders", 0, 10..20);
    let mut route = Route::start(&cluster, latest());
    route.until("ten records", |route| route.records.len() == 10).await;
    assert_eq!(route.values(), numbers(10..20));
    route.close().await;
}

on_both_fetchers!(membership_lives_on_while_nothing_is_received);
async fn membership_lives_on_while_nothing_is_received(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 1)]);
    let cluster = cluster(&broker.bootstrap());
    write(&producer, "orders", 0, 0..20_000);
    let mut route = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    route.until("an assignment", |route| !route.held.is_empty()).await;
    let assignment = route.held[0].clone();
    // Commits and events go on though no records are taken.
    for position in [1, 2, 3] {
        route.source.commit(vec![(assignment.clone(), position)]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while assignment.committed() != Some(position) {
            assert!(Instant::now() < deadline, "no commit of {position}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    route.until("all records", |route| route.records.len() == 20_000).await;
    assert_eq!(route.values(), numbers(0..20_000));
    route.close().await;
}

on_both_fetchers!(partitions_move_between_members_without_loss);
async fn partitions_move_between_members_without_loss(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 4)]);
    let cluster = cluster(&broker.bootstrap());
    for partition in 0..4 {
        write(&producer, "orders", partition, 0..50);
    }
    let mut one = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    one.until("200 records", |route| route.records.len() == 200).await;
    let mut two = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    let deadline = Instant::now() + Duration::from_secs(40);
    while one.held.len() != 2 || two.held.len() != 2 {
        assert!(Instant::now() < deadline, "{:?} {:?}", one.events, two.events);
        one.step(Duration::from_millis(20)).await;
        two.step(Duration::from_millis(20)).await;
    }
    for partition in 0..4 {
        write(&producer, "orders", partition, 50..60);
    }
    one.until("its share", |route| route.records.len() == 220).await;
    two.until("its share", |route| route.records.len() == 20).await;
    one.close().await;
    two.until("everything", |route| route.held.len() == 4).await;
    two.close().await;
}

on_both_fetchers!(unreachable_at_start_then_there);
async fn unreachable_at_start_then_there(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 1)]);
    write(&producer, "orders", 0, 0..10);
    broker.set_reachable(false).unwrap();
    let cluster = cluster(&broker.bootstrap());
    let mut route = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    route.until("an error", |route| route.source.status().kafka_errors > 0).await;
    assert!(route.source.status().not_ready.is_some());
    broker.set_reachable(true).unwrap();
    route.until("ten records", |route| route.records.len() == 10).await;
    route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
    route.close().await;
}

on_both_fetchers!(topics_that_appear_later_start_at_their_beginning);
async fn topics_that_appear_later_start_at_their_beginning(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("pay.eu", 1), ("xpay.eu", 1)]);
    let cluster = cluster(&broker.bootstrap());
    let topics = ["/^pay\\./", "later"];
    let mut route = Route::start(&cluster, member(fetching, &topics, Start::Latest));
    route.until("an assignment", |route| route.held.len() == 1).await;
    let reason = route.source.status().not_ready.unwrap_or_default();
    assert!(reason.contains("later"), "{reason}");
    for topic in ["pay.us", "later"] {
        broker.create_topic(topic, 1).unwrap();
        write(&producer, topic, 0, 0..5);
    }
    write(&producer, "xpay.eu", 0, 0..5);
    route.until("ten records", |route| route.records.len() == 10).await;
    route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
    assert!(route.records.iter().all(|(topic, ..)| topic == "pay.us" || topic == "later"));
    route.close().await;
}

on_both_fetchers!(a_member_that_gets_nothing_is_ready);
async fn a_member_that_gets_nothing_is_ready(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 1)]);
    let cluster = cluster(&broker.bootstrap());
    let ready = |route: &Route| route.source.status().not_ready.is_none();
    let mut one = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    one.until("its partition, and readiness", |one| one.held.len() == 1 && ready(one)).await;
    let mut two = Route::start(&cluster, member(fetching, &["orders"], Start::Earliest));
    two.until("readiness", ready).await;
    assert_eq!(one.held.len() + two.held.len(), 1);
    write(&producer, "orders", 0, 0..10);
    for route in [one, two] {
        let mut other = route;
        other.until("readiness", ready).await;
        other.close().await;
    }
}

on_both_fetchers!(a_pattern_that_matches_nothing_yet_is_ready);
async fn a_pattern_that_matches_nothing_yet_is_ready(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("orders", 1)]);
    let cluster = cluster(&broker.bootstrap());
    let ready = |route: &Route| route.source.status().not_ready.is_none();
    let mut route = Route::start(&cluster, member(fetching, &["/^pay\\./"], Start::Latest));
    route.until("readiness", ready).await;
    broker.create_topic("pay.eu", 1).unwrap();
    write(&producer, "pay.eu", 0, 0..5);
    route.until("five records", |route| route.records.len() == 5).await;
    route.until("readiness", ready).await;
    route.close().await;
}
