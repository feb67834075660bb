//! Messages that a subscriber does not take.

use std::sync::Arc;
use std::time::Instant;

use zafka_sockets::config::PubConfig;
use zafka_sockets::{Demand, Origin, WaitKind};

use crate::support::{PATIENCE, Server, config, eventually, zmq_socket};

/// Publishes again from the delivered position, as the relay does once enough peers want it.
fn again(server: &mut Server, demand: &Arc<Demand>) {
    server.socket.withdraw(&server.origin);
    server.position = server.origin.delivered();
    server.origin = Origin::with(server.position, Some(Arc::clone(demand)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_a_subscribers_limit_is_told_of_until_somebody_takes_it() {
    // More than the kernels hold, so that the connection ends within it.
    const SIZE: usize = 24 * 1024 * 1024;
    let mut server = Server::start(PubConfig { min_peers: 1, ..config() }).await;
    let limited = zmq_socket(zmq::SUB);
    limited.set_maxmsgsize(1024 * 1024).unwrap();
    limited.set_reconnect_ivl(10).unwrap();
    limited.set_subscribe(b"t").unwrap();
    limited.connect(&server.address()).unwrap();
    server.until_subscribed(1).await;
    let demand = server.socket.demand(Some(b"t".to_vec()), None);
    server.origin = Origin::with(0, Some(Arc::clone(&demand)), None);
    let message = [vec![b"t".to_vec(), vec![b'x'; SIZE]]];
    server.publish(&message).await;
    let refused = |server: &Server| {
        server.socket.waits().into_iter().find(|wait| wait.kind == WaitKind::Message)
    };
    let deadline = Instant::now() + PATIENCE;
    while refused(&server).is_none() {
        assert!(Instant::now() < deadline, "the message is not told of");
        if server.origin.is_short() && demand.is_enough() {
            // It is back already, and is sent it again.
            again(&mut server, &demand);
            server.publish(&message).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let wait = refused(&server).unwrap();
    assert_eq!(wait.peer.as_deref(), Some("127.0.0.1"));
    assert!(wait.reason.contains(&format!("{} bytes", SIZE + 3 + 9)), "{}", wait.reason);
    assert!(wait.origin.is_some());
    drop(limited);
    eventually("it has left", || !demand.is_enough()).await;

    let unlimited = zmq_socket(zmq::SUB);
    unlimited.set_subscribe(b"t").unwrap();
    unlimited.connect(&server.address()).unwrap();
    eventually("another is there", || demand.is_enough()).await;
    again(&mut server, &demand);
    server.publish(&message).await;
    let reading =
        tokio::task::spawn_blocking(move || unlimited.recv_multipart(0).expect("the message"));
    assert_eq!(reading.await.unwrap()[1].len(), SIZE);
    server.until_delivered().await;
    assert!(refused(&server).is_none());
}
