//! Records on their way, and what the status says of them.

use zafka_bridge::status::RouteStatus;
use zafka_kafka::embedded::EmbeddedRecord;

use crate::subscribers::{LazySub, Sub};
use crate::support::{
    Broker, Running, assert_chained, eventually, lossless, offsets, route, source,
};

#[tokio::test(flavor = "multi_thread")]
async fn records_reach_a_sub_as_they_are() {
    let broker = Broker::start(&[("orders", 2), ("other", 1)]);
    let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"1")), ("trace", None)];
    let record = EmbeddedRecord {
        topic: "orders",
        partition: Some(1),
        timestamp: Some(5),
        ..Default::default()
    };
    broker.send(&EmbeddedRecord { key: Some(b"k"), value: Some(b"v"), headers, ..record });
    broker.send(&EmbeddedRecord { value: Some(b""), ..record });
    broker.send(&record);
    broker.write("orders", 0, 0..50);
    broker.write("other", 0, 0..1);
    let relay =
        Running::start(&broker, vec![lossless(source(&["orders", "other"], Some("g")))]).await;
    let sub = Sub::start(relay.endpoint(), "orders");
    let records = sub.until(53).await;

    assert_chained(&records);
    let of_one: Vec<_> = records.iter().filter(|record| record.partition == 1).collect();
    assert!(of_one.iter().all(|record| record.topic.as_deref() == Some("orders")));
    let fields: Vec<_> =
        of_one.iter().map(|record| (record.key.as_deref(), record.value.as_deref())).collect();
    assert_eq!(fields, [(Some(&b"k"[..]), Some(&b"v"[..])), (None, Some(&b""[..])), (None, None)]);
    let names: Vec<_> = of_one[0]
        .headers
        .iter()
        .map(|header| (&header.name[..], header.value.as_deref()))
        .collect();
    assert_eq!(names, [(&b"trace"[..], Some(&b"1"[..])), (&b"trace"[..], None)]);

    // The other topic has no subscriber, and waits.
    let status = relay.until_committed(53).await;
    assert!(status.ready && !status.stopped, "{status:?}");
    assert_eq!(status.group.as_deref(), Some("g"));
    assert_eq!(status.peers_subscribed, 1);
    assert_eq!(
        status
            .partitions
            .iter()
            .map(|p| (p.topic.as_str(), p.partition, p.read))
            .collect::<Vec<_>>(),
        [("orders", 0, 50), ("orders", 1, 3), ("other", 0, 0)]
    );
    let counters = &status.counters;
    assert_eq!(
        (counters.records_read, counters.messages_sent, counters.records_unheard),
        (53, 53, 0)
    );
    assert!(counters.bytes_encoded == counters.bytes_sent && counters.bytes_sent > 0);
    assert_eq!((status.peers[0].messages_sent, status.peers[0].bytes_queued), (53, 0));
    assert_eq!(status.peers[0].subscriptions, ["orders"]);
    let lag = |route: &RouteStatus| route.partitions.iter().map(|p| p.lag).collect::<Vec<_>>();
    relay.until("the lag is known", |route| lag(route) == [Some(0), Some(0), Some(1)]).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_routes_and_libzmq() {
    let broker = Broker::start(&[("orders", 1), ("invoices", 1)]);
    let mut second = lossless(source(&["invoices"], None));
    second.name = "second".to_owned();
    let relay =
        Running::start(&broker, vec![lossless(source(&["orders"], Some("g"))), second]).await;
    let endpoints: Vec<String> =
        relay.status.status().routes.iter().map(|route| route.endpoints[0].clone()).collect();
    let (orders, invoices) =
        (LazySub::connect(&endpoints[0], ""), LazySub::connect(&endpoints[1], "inv"));
    broker.write("orders", 0, 0..3000);
    broker.write("invoices", 0, 0..2000);
    let ((_, orders), (_, invoices)) = tokio::join!(orders.read(3000), invoices.read(2000));
    assert_eq!(offsets(&orders)[&0], (0..3000).collect::<Vec<i64>>());
    assert_eq!(offsets(&invoices)[&0], (0..2000).collect::<Vec<i64>>());
    assert_chained(&orders);

    relay.until_committed(3000).await;
    let second = || relay.status.status().routes.remove(1);
    eventually("the second one's are delivered", || second().partitions[0].delivered == 2000).await;
    let second = second();
    assert_eq!(
        (second.group, second.counters.commits),
        (None, 0),
        "without a group nothing is committed"
    );
    assert_eq!(second.partitions[0].committed, None);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_hears_is_delivered_and_counted() {
    let broker = Broker::start(&[("orders", 1)]);
    broker.write("orders", 0, 0..500);
    let relay = Running::start(&broker, vec![route(source(&["orders"], Some("g")))]).await;
    let status = relay.until_committed(500).await;
    assert_eq!((status.counters.records_unheard, status.counters.messages_sent), (500, 0));
    relay.shutdown().await;
}
