//! Two relays in one group.

use std::ops::Range;
use std::time::{Duration, Instant};

use zafka_bridge::status::RouteStatus;

use crate::subscribers::{LazySub, Sub};
use crate::support::{
    Broker, PATIENCE, Running, assert_complete, eventually, local, lossless, narrow, offsets,
    source,
};

fn share(relay: &Running) -> Vec<i32> {
    relay.route().partitions.iter().map(|partition| partition.partition).collect()
}

async fn until_divided(one: &Running, two: &Running) {
    eventually("each has its share", || {
        let (one, two) = (share(one), share(two));
        one.len() == 2 && two.len() == 2 && one.iter().all(|partition| !two.contains(partition))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_under_load_and_nothing_comes_twice() {
    let broker = Broker::start(&[("orders", 4)]);
    let one = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
    let first = Sub::start(one.endpoint(), "orders");
    // Records never stop coming, and no faster than they are taken.
    let write = async |numbers: Range<usize>, came: &dyn Fn() -> usize| {
        for start in numbers.step_by(10) {
            eventually("most came", || 4 * start <= came() + 2000).await;
            (0..4).for_each(|partition| broker.queue("orders", partition, start..start + 10, 100));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    write(0..500, &|| first.count()).await;
    first.until(1).await;
    let two = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
    let second = Sub::start(two.endpoint(), "orders");
    let came = || first.count() + second.count();
    let (mut written, deadline) = (500, Instant::now() + PATIENCE);
    while share(&two).len() != 2 {
        assert!(Instant::now() < deadline, "{:?} {:?}", one.route(), two.route());
        write(written..written + 100, &came).await;
        written += 100;
    }
    until_divided(&one, &two).await;
    write(written..written + 500, &came).await;
    written += 500;
    eventually("everything came", || came() >= 4 * written).await;
    let all = [first.records(), second.records()].concat();
    for (partition, mut offsets) in offsets(&all) {
        offsets.sort_unstable();
        assert_eq!(offsets, (0..written as i64).collect::<Vec<_>>(), "partition {partition}");
    }
    // What the first kept went on: one record without a `prev` for each of the four.
    assert_eq!(first.records().iter().filter(|record| record.prev.is_none()).count(), 4);

    // One leaves: the other goes on from what was delivered.
    one.shutdown().await;
    eventually("it has all", || share(&two).len() == 4).await;
    let before = second.count();
    write(written..written + 10, &came).await;
    second.until(before + 40).await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_relay_gives_back_what_was_delivered() {
    let broker = Broker::start(&[("orders", 4)]);
    let directory = tempfile::tempdir().unwrap();
    let mut config = narrow(source(&["orders"], Some("g")), &directory);
    config.source.revoke_timeout = Duration::from_secs(1);
    let stuck = Running::start(&broker, vec![config]).await;
    let lazy = LazySub::connect(&local(&directory), "orders");
    for partition in 0..4 {
        broker.write_sized("orders", partition, 0..1000, 1000);
    }
    stuck.until_stuck().await;
    let delivered = |status: &RouteStatus, partition: i32| {
        status.partitions.iter().find(|part| part.partition == partition).map(|part| part.delivered)
    };
    let before = stuck.route();
    let other = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
    let sub = Sub::start(other.endpoint(), "orders");
    until_divided(&stuck, &other).await;
    let given = share(&other);
    let missing: i64 = given.iter().map(|part| 1000 - delivered(&before, *part).unwrap_or(0)).sum();
    let taken = sub.until(missing as usize).await;
    for partition in &given {
        let floor = delivered(&before, *partition).unwrap_or(0);
        assert_eq!(
            offsets(&taken)[partition],
            (floor..1000).collect::<Vec<_>>(),
            "from what was delivered"
        );
    }
    let (_lazy, had) = lazy.read_rest().await;
    let all = [had, taken].concat();
    for partition in 0..4 {
        assert_complete(&all, partition, 0..1000);
    }
    stuck.shutdown().await;
    other.shutdown().await;
}
