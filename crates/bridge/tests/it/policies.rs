//! Slow peers and missing ones.

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
    let relay = Running::start(&broker, vec![narrow(source(&["orders"], Some("g")), &directory)]).await;
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
    // A gap is where a record names another one before it than the one that came.
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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_without_min_peers() {
    let broker = Broker::start(&[("orders", 1)]);
    let relay = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
    for (round, end) in [(0, 100), (1, 200)] {
        let start = end - 100;
        broker.write("orders", 0, start..end);
        relay.until("its partition is held", |route| route.partitions.len() == 1).await;
        // Longer than a commit and a fetch take.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let held = relay.partition(0).unwrap();
        assert_eq!((held.delivered, held.committed), (start as i64, Some(start as i64)), "round {round}");
        let sub = Sub::start(relay.endpoint(), "orders");
        let records = sub.until(100).await;
        assert_eq!(offsets(&records)[&0], (start as i64..end as i64).collect::<Vec<_>>());
        relay.until_committed(end as i64).await;
        drop(sub);
        relay.until("the peer is gone", |route| route.peers.is_empty()).await;
    }
    let status = relay.shutdown().await.status();
    assert_eq!(status.routes[0].counters.records_unheard, 0);
}
