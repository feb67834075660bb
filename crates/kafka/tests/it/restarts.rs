//! An assignment that the route has read again from an offset.

use std::sync::Arc;

use zafka_kafka::Assignment;
use zafka_kafka::config::{FetcherKind, GroupProtocol, Start};

use crate::group::REBALANCES;
use crate::route::{Route, broker, cluster, config, numbers, write};

/// The values of the records of this generation, in their order.
fn of_generation(route: &Route, generation: u32) -> Vec<String> {
    let values = route.values().into_iter().zip(&route.generations);
    values.filter(|(_, of)| **of == generation).map(|(value, _)| value).collect()
}

on_both_fetchers!(what_is_restarted_is_read_again_under_another_generation);
async fn what_is_restarted_is_read_again_under_another_generation(fetching: FetcherKind) {
    for group in [None, Some(("g", REBALANCES))] {
        restart(fetching, group).await;
    }
}

async fn restart(fetching: FetcherKind, group: Option<(&str, GroupProtocol)>) {
    let (broker, producer) = broker(&[("orders", 2)]);
    let cluster = cluster(&broker.bootstrap());
    write(&producer, "orders", 0, 0..1000);
    let mut route = Route::start(&cluster, config(fetching, &["orders"], group, Start::Earliest));
    route.until("some records", |route| !route.records.is_empty()).await;
    let first = |assignment: &&Arc<Assignment>| assignment.partition() == 0;
    let assignment = Arc::clone(route.held.iter().find(first).unwrap());
    // In the middle of it: what is on its way is of the generation before.
    let generation = route.source.restart(&assignment, 0, 5).unwrap();
    assert_eq!((generation.number, generation.start), (1, 5));
    assert!(route.source.restart(&assignment, 0, 3).is_none(), "another one has begun");
    route.until("the end again", |route| of_generation(route, 1).len() == 995).await;
    assert_eq!(of_generation(&route, 1), numbers(5..1000), "{fetching:?}, {group:?}");
    assert!(route.generations.is_sorted(), "no record of the one before comes after it");
    write(&producer, "orders", 0, 1000..1010);
    route.until("what is written then", |route| of_generation(route, 1).len() == 1005).await;

    // At the end, where no record tells of it; twice, of which the second counts.
    let generation = route.source.restart(&assignment, 1, 1010).unwrap();
    let generation = route.source.restart(&assignment, generation.number, 1009).unwrap();
    route
        .until("the last record", |route| route.generations.last() == Some(&generation.number))
        .await;
    assert_eq!(of_generation(&route, 3), numbers(1009..1010));
    assert!(of_generation(&route, 2).is_empty());
    assert_eq!(assignment.generation(), generation);
    let status = route.source.status();
    assert_eq!((status.offset_resets, status.records_skipped, status.not_ready), (0, 0, None));
    route.close().await;
}
