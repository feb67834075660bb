//! One route is started, stopped and replaced while the others run.

use zafka_bridge::{Route, StartError};

use crate::subscribers::Sub;
use crate::support::{Broker, Running, SHUTDOWN, assert_complete, lossless, source};

#[tokio::test(flavor = "multi_thread")]
async fn one_route_is_replaced_while_the_other_runs() {
    let broker = Broker::start(&[("orders", 1), ("payments", 1)]);
    let named = |name: &str, topic: &str, group: &str| {
        let mut config = lossless(source(&[topic], Some(group)));
        config.name = name.to_owned();
        config.source.route = name.to_owned();
        config
    };
    let mut running = Running::start(&broker, vec![named("a", "orders", "ga")]).await;
    let sub = Sub::start(running.endpoint(), "");
    broker.write("orders", 0, 0..10);
    sub.until(10).await;

    // Another one begins beside it, but not under the same name.
    let again = running.relay.start_route(named("a", "payments", "gb")).await;
    assert!(matches!(again, Err(StartError::Exists { route }) if route == "a"));
    running.relay.start_route(named("b", "payments", "gb")).await.unwrap();
    let names = |running: &Running| -> Vec<String> {
        running.status.status().routes.into_iter().map(|route| route.name).collect()
    };
    assert_eq!(names(&running), ["a", "b"]);
    let endpoint = running.status.status().routes[1].endpoints[0].clone();
    let other = Sub::start(endpoint.parse().unwrap(), "");
    broker.write("payments", 0, 0..10);
    other.until(10).await;

    // In its place, at the same endpoint and in the same group: it continues at the end of that.
    let mut next = named("b", "payments", "gb");
    next.socket.bind = vec![endpoint.parse().unwrap()];
    running.relay.replace_route(Route::from(next), SHUTDOWN).await.unwrap();
    broker.write("payments", 0, 10..20);
    let records = other.until(20).await;
    assert_complete(&records, 0, 0..20);
    assert_eq!(records.len(), 20, "nothing was sent again");

    // The first one saw nothing of all that.
    running.relay.stop_route("b", SHUTDOWN).await;
    assert_eq!(names(&running), ["a"]);
    broker.write("orders", 0, 10..20);
    let records = sub.until(20).await;
    assert_complete(&records, 0, 0..20);
    running.relay.stop_route("nobody", SHUTDOWN).await;
    running.shutdown().await;
}
