//! Binding, connecting, and what is left behind: nothing.

use zafka_sockets::PubSocket;
use zafka_sockets::config::PubConfig;

use crate::support::{Server, bodies_until_end, config, endpoint, eventually, zmq_socket, zmq_sub};

#[tokio::test]
async fn a_wildcard_port_is_resolved() {
    let server = Server::start(config()).await;
    let address = server.address();
    assert!(address.starts_with("tcp://127.0.0.1:") && !address.ends_with('*'), "{address}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Server::start(config()).await;
    let taken = server.socket.endpoints().to_vec();
    let error = PubSocket::start("test", PubConfig { bind: taken, ..config() }).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot bind {}: ", server.address())), "{error}");
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let at = PubConfig { bind: vec![endpoint(&format!("ipc://{}", path.display()))], ..config() };
    let mut server = Server::start(at.clone()).await;
    let error = PubSocket::start("test", at).await.unwrap_err();
    assert!(error.to_string().contains("another program listens there"), "{error}");
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    server.send("t", "end").await;
    bodies_until_end(sub).await;
    server.socket.close().await;
    assert!(!path.exists(), "the socket file is taken away");

    std::fs::write(&path, "precious").unwrap();
    let at = PubConfig { bind: vec![endpoint(&format!("ipc://{}", path.display()))], ..config() };
    let error = PubSocket::start("test", at).await.unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_again_when_the_sub_comes_back() {
    let first = zmq_socket(zmq::SUB);
    first.bind("tcp://127.0.0.1:*").unwrap();
    first.set_subscribe(b"t").unwrap();
    let address = first.get_last_endpoint().unwrap().unwrap();
    let mut server =
        Server::start(PubConfig { bind: Vec::new(), connect: vec![endpoint(&address)], ..config() }).await;
    // A socket that is bound sends its subscriptions only while somebody receives.
    let receiving = tokio::spawn(bodies_until_end(first));
    server.until_subscribed(1).await;
    server.send("t", "end").await;
    receiving.await.unwrap();
    server.until_subscribed(0).await;

    let second = zmq_socket(zmq::SUB);
    second.set_subscribe(b"t").unwrap();
    eventually("the port is free", || second.bind(&address).is_ok()).await;
    let receiving = tokio::spawn(bodies_until_end(second));
    server.until_subscribed(1).await;
    server.send("t", "back").await;
    server.send("t", "end").await;
    assert_eq!(receiving.await.unwrap(), ["back"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_ends_a_connector_that_finds_nobody() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connect = vec![endpoint(&format!("tcp://{free}"))];
    let server = Server::start(PubConfig { bind: Vec::new(), connect, ..config() }).await;
    server.socket.close().await;
    assert!(server.socket.snapshot().peers.is_empty());
}
