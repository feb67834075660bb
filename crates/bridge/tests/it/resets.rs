//! Partitions whose log does not have the offset due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zafka_kafka::{Source, SourceEvent};

use crate::subscribers::Sub;
use crate::support::{
    Broker, PATIENCE, Running, assert_chained, eventually, lossless, offsets, source,
};

/// Commits an offset of partition 0, though the log may not go that far.
pub async fn commit(broker: &Broker, topic: &str, group: &str, offset: i64) {
    let (source, mut receivers) =
        Source::start(&broker.cluster(), source(&[topic], Some(group))).unwrap();
    let assignment = timeout(PATIENCE, async {
        loop {
            if let Some(SourceEvent::Assigned(assignments)) = receivers.events.recv().await
                && let Some(assignment) = assignments.first()
            {
                return Arc::clone(assignment);
            }
        }
    });
    let assignment = assignment.await.expect("an assignment");
    source.commit(vec![(Arc::clone(&assignment), offset)]);
    eventually("the offset is committed", || assignment.committed() == Some(offset)).await;
    drop(receivers);
    source.close(Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_follow_a_log_that_ends_before_the_committed_offset() {
    let broker = Broker::start(&[("orders", 1)]);
    commit(&broker, "orders", "g", 100).await;
    let relay = Running::start(&broker, vec![lossless(source(&["orders"], Some("g")))]).await;
    let sub = Sub::start(relay.endpoint(), "orders");
    relay.until("the reset", |route| route.counters.offset_resets == 1).await;
    // Long enough for commits of what was before the reset.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    broker.write("orders", 0, 0..50);
    let records = sub.until(50).await;
    assert_eq!(offsets(&records)[&0], (0..50).collect::<Vec<i64>>());
    assert_chained(&records);
    // Else the next relay would skip what is written up to 100 and not delivered.
    relay.until_committed(50).await;
    relay.shutdown().await;
}
