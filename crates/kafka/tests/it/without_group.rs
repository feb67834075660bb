//! Reading every partition without a group.

use zafka_kafka::config::{FetcherKind, GroupProtocol, Start};
use zafka_kafka::{TopicFault, probe};

use crate::route::{Route, broker, cluster, config, write};

on_both_fetchers!(every_partition_and_those_that_come);
async fn every_partition_and_those_that_come(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("a.one", 3), ("b", 1)]);
    let cluster = cluster(&broker.bootstrap());
    for partition in 0..3 {
        write(&producer, "a.one", partition, 0..10);
    }
    let mut route = Route::start(&cluster, config(fetching, &["/a\\..*/"], None, Start::Earliest));
    route.until("30 records", |route| route.records.len() == 30).await;
    broker.create_topic("a.two", 1).unwrap();
    write(&producer, "a.two", 0, 0..10);
    route.until("40 records", |route| route.records.len() == 40).await;
    let (assignment, position) = route.positions()[0].clone();
    route.source.commit(vec![(assignment.clone(), position)]);
    route.until("ends of logs", |route| route.end_offset("a.two", 0) == Some(10)).await;
    assert_eq!((assignment.committed(), route.source.status().commits), (None, 0));
    route.until("readiness", |route| route.source.status().not_ready.is_none()).await;
    route.close().await;

    // Nothing was committed: the next one reads all of it again.
    let mut route = Route::start(&cluster, config(fetching, &["a.one"], None, Start::Earliest));
    route.until("30 records", |route| route.records.len() == 30).await;
    route.close().await;
}

on_both_fetchers!(latest_reads_what_comes);
async fn latest_reads_what_comes(fetching: FetcherKind) {
    let (broker, producer) = broker(&[("a", 1)]);
    let cluster = cluster(&broker.bootstrap());
    write(&producer, "a", 0, 0..10);
    let mut route = Route::start(&cluster, config(fetching, &["a"], None, Start::Latest));
    route.until("an assignment", |route| route.held.len() == 1).await;
    assert_eq!(route.held[0].start, 10);
    write(&producer, "a", 0, 10..12);
    route.until("two records", |route| route.records.len() == 2).await;
    assert_eq!(route.values(), ["10", "11"]);
    route.close().await;
}

#[test]
fn probe_tells_what_each_source_would_read() {
    let (broker, _producer) = broker(&[("a", 2), ("b.one", 1), ("b.two", 1)]);
    let sources = [
        config(
            FetcherKind::Fast,
            &["a", "/b/"],
            Some(("g", GroupProtocol::Classic)),
            Start::Latest,
        ),
        config(FetcherKind::Fast, &["/^b\\.two$/", "c"], None, Start::Latest),
    ];
    let found = probe(&cluster(&broker.bootstrap()), &[&sources[0], &sources[1]]).unwrap();
    let topics = |list: &[(&str, i32)]| -> Vec<_> {
        list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    assert_eq!(found[0].topics, topics(&[("a", 2), ("b.one", 1), ("b.two", 1)]));
    assert_eq!(found[0].missing, []);
    assert_eq!(found[1].topics, topics(&[("b.two", 1)]));
    assert_eq!(found[1].missing, [("c".to_owned(), TopicFault::Unknown)]);
}
