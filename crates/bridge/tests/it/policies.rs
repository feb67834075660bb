//! Slow peers and missing ones.

use zafka_bridge::status::{PartitionStatus, RouteStatus};
use zafka_envelope::FramePlan;
use zafka_kafka::config::{FetcherKind, SourceConfig};
use zafka_sockets::config::SlowPeer;

use crate::subscribers::{LazySub, Sub};
use crate::support::{
    Broker, Running, assert_chained, assert_complete, local, lossless, narrow, offsets, source,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_cannot_have_had_is_not_committed() {
    let broker = Broker::start(&[("orders", 2)]);
    let directory = tempfile::tempdir().unwrap();
    let narrow = || narrow(source(&["orders"], Some("g")), &directory);
    let relay = Running::start(&broker, vec![narrow()]).await;
    let sub = LazySub::connect(&local(&directory), "orders");
    for partition in 0..2 {
        broker.write_sized("orders", partition, 0..2000, 1000);
    }
    let stuck = relay.until_stuck().await;
    assert!(stuck.ring_bytes <= 2 * stuck.ring_bytes_max, "{stuck:?}");
    assert!(stuck.peers[0].bytes_queued > 0);
    // As if killed: nothing is drained, nothing more is committed.
    drop(relay);
    let (sub, had) = sub.read_rest().await;
    assert!(had.len() < 4000);
    for partition in &stuck.partitions {
        assert!(partition.committed <= Some(partition.delivered), "{partition:?}");
        assert_complete(&had, partition.partition, 0..partition.delivered);
    }

    let relay = Running::start(&broker, vec![narrow()]).await;
    let committed: i64 = {
        let held = relay.until("both are held", |route| route.partitions.len() == 2).await;
        held.partitions.iter().filter_map(|partition| partition.committed).sum()
    };
    let (_sub, rest) = sub.read(4000 - committed as usize).await;
    let all = [had, rest].concat();
    for partition in 0..2 {
        assert_complete(&all, partition, 0..2000);
    }
    relay.until_committed(4000).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_again_gets_everything() {
    let broker = Broker::start(&[("orders", 2)]);
    let directory = tempfile::tempdir().unwrap();
    let relay =
        Running::start(&broker, vec![narrow(source(&["orders"], Some("g")), &directory)]).await;
    let sub = LazySub::connect(&local(&directory), "orders");
    for partition in 0..2 {
        broker.write_sized("orders", partition, 0..2000, 1000);
    }
    relay.until_stuck().await;
    let (_sub, records) = sub.read(4000).await;
    assert_chained(&records);
    for partition in 0..2 {
        assert_eq!(offsets(&records)[&partition], (0..2000).collect::<Vec<i64>>());
    }
    let status = relay.until_committed(4000).await;
    assert_eq!(status.counters.messages_dropped, 0);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_counted_and_seen_as_a_gap() {
    let broker = Broker::start(&[("orders", 1)]);
    let directory = tempfile::tempdir().unwrap();
    let mut route = narrow(source(&["orders"], Some("g")), &directory);
    route.socket.slow_peer = SlowPeer::Drop;
    let relay = Running::start(&broker, vec![route]).await;
    let sub = LazySub::connect(&local(&directory), "orders");
    broker.write_sized("orders", 0, 0..3000, 1000);
    relay.until("all is read", |route| route.counters.records_read == 3000).await;
    let status = relay.until_stuck().await;
    let dropped = status.counters.messages_dropped as usize;
    assert!(dropped > 0 && dropped < 3000, "{dropped}");
    assert_eq!(status.peers[0].messages_dropped as usize, dropped);
    let (_sub, records) = sub.read(3000 - dropped).await;
    assert_eq!(records.len(), 3000 - dropped);
    // A gap is a record that names another one before it than the one that came.
    let mut missing = 2999 - records.last().unwrap().offset;
    for (before, record) in records.iter().zip(&records[1..]) {
        assert_eq!(record.prev, Some(record.offset - 1));
        missing += record.offset - before.offset - 1;
    }
    assert_eq!(missing as usize, dropped);
    let status = relay.until_committed(3000).await;
    assert_eq!(status.counters.messages_dropped as usize, dropped);
    relay.shutdown().await;
}

/// The partition "TOPIC/0" of the first route.
fn partition(route: &RouteStatus, topic: &str) -> PartitionStatus {
    route.partitions.iter().find(|partition| partition.topic == topic).cloned().unwrap_or_default()
}

/// The kinds of waits in a route's status.
fn waits(route: &RouteStatus) -> Vec<&str> {
    let waits = route.waiting.iter().filter(|wait| wait.kind == "subscribers");
    waits.map(|wait| wait.reason.split(" subscribers").next().unwrap_or_default()).collect()
}

async fn each_fetcher(test: impl AsyncFn(FetcherKind)) {
    for fetching in [FetcherKind::Fast, FetcherKind::Librdkafka] {
        test(fetching).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_without_min_peers() {
    each_fetcher(nothing_moves).await;
}

async fn nothing_moves(fetcher: FetcherKind) {
    let broker = Broker::start(&[("orders", 1)]);
    let source = SourceConfig { fetcher, ..source(&["orders"], Some("g")) };
    let relay = Running::start(&broker, vec![lossless(source)]).await;
    for (round, end) in [(0, 100), (1, 200)] {
        let start = end - 100;
        relay
            .until("it is told that nobody wants it", |route| {
                waits(route) == ["orders/0 has 0 of 1"]
            })
            .await;
        broker.write("orders", 0, start..end);
        // Longer than a commit, a fetch and the time that a subscriber has to come again take.
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        let held = relay.partition(0).unwrap();
        let committed = held.committed.unwrap_or_default();
        assert_eq!(
            (held.read, held.delivered, committed),
            (start as i64, start as i64, start as i64),
            "round {round}"
        );
        let sub = Sub::start(relay.endpoint(), "orders");
        let records = sub.until(100).await;
        assert_eq!(offsets(&records)[&0], (start as i64..end as i64).collect::<Vec<_>>());
        assert_chained(&records);
        let status = relay.until_committed(end as i64).await;
        assert_eq!(waits(&status).len(), 0);
        drop(sub);
        relay.until("the peer is gone", |route| route.peers.is_empty()).await;
    }
    let status = relay.shutdown().await.status();
    assert_eq!(status.routes[0].counters.records_unheard, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_waits_for_those_that_want_it() {
    each_fetcher(waits_for_those_that_want_it).await;
}

async fn waits_for_those_that_want_it(fetcher: FetcherKind) {
    let broker = Broker::start(&[("orders", 1), ("payments", 1)]);
    broker.write("orders", 0, 0..100);
    broker.write("payments", 0, 0..100);
    let source = SourceConfig { fetcher, ..source(&["orders", "payments"], Some("g")) };
    let relay = Running::start(&broker, vec![lossless(source)]).await;
    let orders = Sub::start(relay.endpoint(), "orders");
    assert_eq!(orders.until(100).await.len(), 100);
    let status = relay
        .until("what is wanted is committed", |route| {
            partition(route, "orders").committed == Some(100)
        })
        .await;
    assert_eq!(waits(&status), ["payments/0 has 0 of 1"]);
    let unwanted = partition(&status, "payments");
    assert_eq!(
        (unwanted.read, unwanted.delivered, unwanted.committed.unwrap_or_default()),
        (0, 0, 0)
    );
    // Another one wants it later, and has all of it.
    let payments = Sub::start(relay.endpoint(), "pay");
    let records = payments.until(100).await;
    assert_eq!(offsets(&records)[&0], (0..100).collect::<Vec<_>>());
    let status = relay.until_committed(200).await;
    assert_eq!((waits(&status).len(), status.counters.records_unheard), (0, 0));
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_want_different_things_are_not_two() {
    let broker = Broker::start(&[("orders", 1), ("payments", 1)]);
    broker.write("orders", 0, 0..10);
    broker.write("payments", 0, 0..10);
    let mut config = lossless(source(&["orders", "payments"], Some("g")));
    config.socket.min_peers = 2;
    let relay = Running::start(&broker, vec![config]).await;
    let _orders = Sub::start(relay.endpoint(), "orders");
    let _payments = Sub::start(relay.endpoint(), "payments");
    let told = ["orders/0 has 1 of 2", "payments/0 has 1 of 2"];
    let status =
        relay.until("it is told who is missing", |route| route.ready && waits(route) == told).await;
    assert_eq!(status.counters.messages_sent, 0);
    let both = Sub::start(relay.endpoint(), "");
    both.until(20).await;
    relay.until_committed(20).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_again_at_once_misses_nothing() {
    each_fetcher(comes_again).await;
}

async fn comes_again(fetcher: FetcherKind) {
    const ROUNDS: usize = 6;
    const EACH: usize = 500;
    let broker = Broker::start(&[("orders", 1)]);
    let source = SourceConfig { fetcher, ..source(&["orders"], Some("g")) };
    let relay = Running::start(&broker, vec![lossless(source)]).await;
    broker.write("orders", 0, 0..EACH);
    let _other = Sub::start(relay.endpoint(), "something else");
    for round in 0..ROUNDS {
        let sub = Sub::start(relay.endpoint(), "orders");
        // It has them wherever the partition stood when it came: open, short, or held.
        let records = sub.until(EACH).await;
        let expected = (round * EACH) as i64..((round + 1) * EACH) as i64;
        assert_eq!(offsets(&records)[&0], expected.collect::<Vec<_>>(), "round {round}");
        relay.until_committed(((round + 1) * EACH) as i64).await;
        drop(sub);
        relay.until("it has left", |route| route.peers_subscribed == 1).await;
        let next = (round + 1) * EACH;
        broker.write("orders", 0, next..next + EACH);
        if round % 2 == 0 {
            relay.until("the partition is let go", |route| waits(route).len() == 1).await;
        }
    }
    let status = relay.shutdown().await.status();
    assert_eq!(status.routes[0].counters.records_unheard, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_routing_frames_differ_any_subscription_opens() {
    let broker = Broker::start(&[("orders", 1)]);
    broker.write("orders", 0, 0..10);
    let mut config = lossless(source(&["orders"], Some("g")));
    config.frames = FramePlan::parse(&["{key}", "{value}"]).unwrap();
    let relay = Running::start(&broker, vec![config]).await;
    relay.until("nobody is there", |route| waits(route) == ["orders/0 has 0 of 1"]).await;
    let _other = Sub::start(relay.endpoint(), "nothing has this key");
    let status = relay.until_committed(10).await;
    assert_eq!(status.counters.records_unheard, 10);
    relay.shutdown().await;
}
