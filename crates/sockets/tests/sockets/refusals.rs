//! Records that a subscriber does not take.

use zafka_sockets::WaitKind;
use zafka_sockets::config::PubConfig;

use crate::support::{Server, config, eventually, zmq_socket};

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
    server.publish(&[vec![b"t".to_vec(), vec![b'x'; SIZE]]]).await;
    let refused =
        |server: &Server| server.socket.waits().into_iter().find(|wait| wait.kind == WaitKind::Record);
    eventually("the message is told of", || refused(&server).is_some()).await;
    let wait = refused(&server).unwrap();
    assert_eq!(wait.peer.as_deref(), Some("127.0.0.1"));
    assert!(wait.reason.contains(&format!("{} bytes", SIZE + 3 + 9)), "{}", wait.reason);
    assert!(wait.origin.is_some_and(|origin| std::sync::Arc::ptr_eq(&origin, &server.origin)));
    drop(limited);

    let unlimited = zmq_socket(zmq::SUB);
    unlimited.set_subscribe(b"t").unwrap();
    unlimited.connect(&server.address()).unwrap();
    let reading = tokio::task::spawn_blocking(move || unlimited.recv_multipart(0).expect("the message"));
    assert_eq!(reading.await.unwrap()[1].len(), SIZE);
    server.until_delivered().await;
    assert!(refused(&server).is_none());
}
