//! The ends of relays, and the positions that they leave for the next one.

use std::time::Duration;

use tokio::time::timeout;
use zafka_kafka::config::OnOutOfRange;

use crate::resets::commit;
use crate::subscribers::{LazySub, Sub};
use crate::support::{
    Broker, PATIENCE, Running, assert_complete, local, lossless, narrow, offsets, route, source,
};

/// More than the parts of a shutdown may take in all if nothing is there to be sent.
const PROMPT: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn the_next_goes_on_where_one_was_shut_down() {
    let broker = Broker::start(&[("orders", 2)]);
    let mut next = [0_i64; 2];
    for round in 1..4 {
        let relay = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
        let sub = Sub::start(relay.endpoint(), "orders");
        for partition in 0..2 {
            broker.write_sized("orders", partition, 0..3000, 100);
        }
        sub.until(1000).await;
        // In the middle of it.
        let status = relay.shutdown().await.status();
        let partitions = &status.routes[0].partitions;
        let sent: i64 =
            partitions.iter().map(|part| part.delivered - next[part.partition as usize]).sum();
        let records = sub.until(sent as usize).await;
        for partition in partitions {
            let number = partition.partition;
            assert_eq!(partition.committed, Some(partition.delivered), "round {round}");
            let expected: Vec<i64> = (next[number as usize]..partition.delivered).collect();
            let found = offsets(&records).remove(&number).unwrap_or_default();
            assert_eq!(found, expected, "round {round}: neither lost nor twice");
            next[number as usize] = partition.delivered;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_sends_what_is_in_the_ring() {
    let broker = Broker::start(&[("orders", 1)]);
    let directory = tempfile::tempdir().unwrap();
    let relay =
        Running::start(&broker, vec![narrow(source(&["orders"], Some("g")), &directory)]).await;
    let sub = LazySub::connect(&local(&directory), "orders");
    broker.write_sized("orders", 0, 0..2000, 1000);
    let stuck = relay.until_stuck().await;
    let status = relay.status.clone();
    let ending = tokio::spawn(relay.relay.shutdown(PATIENCE));
    let (sub, mut had) = sub.read(stuck.partitions[0].delivered as usize + 1).await;
    ending.await.unwrap();
    let last = status.status().routes.remove(0).partitions.remove(0);
    let (sub, rest) = sub.read(last.delivered as usize - had.len()).await;
    had.extend(rest);
    let (_sub, more) = sub.read_rest().await;
    had.extend(more);
    assert_eq!(had.len() as i64, last.delivered, "what was sent is what was delivered");
    assert_eq!(last.committed, Some(last.delivered));
    assert!(last.delivered > stuck.partitions[0].delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_gives_a_stuck_peer_its_time_and_no_more() {
    let broker = Broker::start(&[("orders", 1)]);
    let directory = tempfile::tempdir().unwrap();
    let relay =
        Running::start(&broker, vec![narrow(source(&["orders"], Some("g")), &directory)]).await;
    let sub = LazySub::connect(&local(&directory), "orders");
    broker.write_sized("orders", 0, 0..2000, 1000);
    relay.until_stuck().await;
    let status = relay.status.clone();
    timeout(PROMPT, relay.relay.shutdown(Duration::from_millis(200))).await.expect("it ends");
    let last = status.status().routes.remove(0).partitions.remove(0);
    assert_eq!(last.committed, Some(last.delivered));
    let (_sub, had) = sub.read_rest().await;
    assert_complete(&had, 0, 0..last.delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_needs_no_broker() {
    let broker = Broker::start(&[("orders", 1)]);
    // There for a while, then not.
    broker.write("orders", 0, 0..10);
    let relay = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
    relay.until("its partition is held", |route| route.ready && route.partitions.len() == 1).await;
    broker.embedded.set_reachable(false).unwrap();
    let _sub = Sub::start(relay.endpoint(), "orders");
    relay.until("it sees that", |route| !route.ready).await;
    // Never there.
    let never = Running::start(&broker, vec![route(source(&["orders"], Some("g")))]).await;
    let never_in_a_group = Running::start(&broker, vec![route(source(&["orders"], None))]).await;
    never.until("it sees that", |route| route.counters.kafka_errors > 0).await;
    let all =
        async { tokio::join!(relay.shutdown(), never.shutdown(), never_in_a_group.shutdown()) };
    timeout(PROMPT, all).await.expect("they end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_stops_by_itself_commits_and_others_go_on() {
    let broker = Broker::start(&[("orders", 1), ("cut", 1), ("other", 1)]);
    broker.write("orders", 0, 0..200);
    commit(&broker, "cut", "g", 100).await;
    let mut stops = route(source(&["orders", "cut"], Some("g")));
    stops.source.on_out_of_range = OnOutOfRange::Stop;
    let mut other = lossless(source(&["other"], Some("h")));
    other.name = "other".to_owned();
    let mut relay = Running::start(&broker, vec![stops, other]).await;
    let status = relay.until("it stops", |route| route.stopped).await;
    assert!(
        !status.ready && status.reason.as_ref().is_some_and(|why| why.contains("cut/0")),
        "{status:?}"
    );
    relay
        .until("what was delivered is committed", |route| {
            route
                .partitions
                .iter()
                .all(|part| part.topic == "cut" || part.committed == Some(part.delivered))
        })
        .await;

    let endpoint = relay.status.status().routes[1].endpoints[0].parse().unwrap();
    let sub = Sub::start(endpoint, "other");
    broker.write("other", 0, 0..10);
    sub.until(10).await;
    tokio::select! {
        stopped = relay.relay.stopped() => panic!("one goes on: {stopped:?}"),
        () = std::future::ready(()) => {}
    }
    relay.shutdown().await;
}
