//! A known stream reaches libzmq byte for byte, over every transport, from either side.

use std::path::Path;

use zafka_sockets::config::PubConfig;
use zafka_sockets::{SubEvent, SubSocket};

use crate::support::{Server, bodies_until_end, config, endpoint, eventually, zmq_socket, zmq_sub};

const SIZES: [usize; 10] = [0, 1, 2, 100, 254, 255, 256, 257, 1000, 5000];

/// Message `index` of the stream.
fn message(index: u64, size: usize) -> Vec<Vec<u8>> {
    let byte = (index % 251) as u8;
    vec![b"t".to_vec(), index.to_be_bytes().to_vec(), vec![byte; size]]
}

fn size(index: u64) -> usize {
    match index {
        500 => 1 << 20,
        1000 => 10 << 20,
        _ if index.is_multiple_of(100) => SIZES[(index / 100) as usize % SIZES.len()],
        _ => SIZES[index as usize % 7],
    }
}

/// Publishes `count` messages in chunks of up to 50.
async fn publish(server: &mut Server, count: u64) {
    let mut index = 0;
    while index < count {
        let end = (index + 1 + index % 50).min(count);
        let messages: Vec<_> = (index..end).map(|index| message(index, size(index))).collect();
        server.publish(&messages).await;
        index = end;
    }
}

fn receive(socket: &zmq::Socket, count: u64) {
    for index in 0..count {
        let frames = socket.recv_multipart(0).expect("a message");
        assert!(
            frames == message(index, size(index)),
            "message {index} came as {} frames",
            frames.len()
        );
    }
}

async fn whole_stream(config: PubConfig, kind: zmq::SocketType, bind: Option<String>, count: u64) {
    let socket = zmq_socket(kind);
    if let Some(address) = &bind {
        socket.bind(address).unwrap();
    }
    let mut config = config;
    if bind.is_some() {
        let bound = socket.get_last_endpoint().unwrap().unwrap();
        config.bind = Vec::new();
        config.connect = vec![endpoint(&bound)];
    }
    let mut server = Server::start(config).await;
    if bind.is_none() {
        socket.connect(&server.address()).unwrap();
    }
    match kind {
        zmq::XSUB => socket.send(&b"\x01t"[..], 0).unwrap(),
        _ => socket.set_subscribe(b"t").unwrap(),
    }
    // A socket that is bound sends its subscriptions only while there is a receiver.
    let receiving = tokio::task::spawn_blocking(move || receive(&socket, count));
    server.until_subscribed(1).await;
    publish(&mut server, count).await;
    server.until_delivered().await;
    receiving.await.unwrap();
    let snapshot = server.socket.snapshot();
    assert_eq!(snapshot.counters.messages_sent, count);
    assert_eq!(snapshot.counters.messages_dropped, 0);
    assert_eq!(snapshot.ring_bytes, 0);
}

fn ipc(name: &str, directory: &Path) -> String {
    format!("ipc://{}", directory.join(name).display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sub_over_tcp() {
    whole_stream(config(), zmq::SUB, None, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xsub_over_tcp() {
    whole_stream(config(), zmq::XSUB, None, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sub_that_is_bound() {
    whole_stream(config(), zmq::SUB, Some("tcp://127.0.0.1:*".to_owned()), 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sub_over_ipc() {
    let directory = tempfile::tempdir().unwrap();
    let config = PubConfig { bind: vec![endpoint(&ipc("a", directory.path()))], ..config() };
    whole_stream(config, zmq::SUB, None, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sub_that_is_bound_to_ipc() {
    let directory = tempfile::tempdir().unwrap();
    whole_stream(config(), zmq::SUB, Some(ipc("b", directory.path())), 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_sub() {
    let mut server = Server::start(config()).await;
    let mut sub = SubSocket::new(server.socket.endpoints()[0].clone(), vec![b"t".to_vec()]);
    let receiving = tokio::spawn(async move {
        assert_eq!(sub.next().await, SubEvent::Connected);
        for index in 0..2000 {
            let SubEvent::Message(frames) = sub.next().await else {
                panic!("the connection was lost")
            };
            assert!(frames == message(index, size(index)), "message {index}");
        }
    });
    server.until_subscribed(1).await;
    publish(&mut server, 2000).await;
    receiving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_that_reads_slowly_gets_all_that_was_written_before_the_close() {
    let mut server = Server::start(config()).await;
    let socket = zmq_socket(zmq::SUB);
    socket.set_rcvhwm(1).unwrap();
    socket.set_subscribe(b"t").unwrap();
    socket.connect(&server.address()).unwrap();
    server.until_subscribed(1).await;
    // As much as the kernel takes: what it has taken survives the close.
    let mut published = 0;
    while published < 400 {
        server.publish(&[message(published, 1000)]).await;
        published += 1;
    }
    let patience = tokio::time::Instant::now() + crate::support::PATIENCE;
    assert!(server.socket.drained(patience).await);
    server.socket.close().await;
    let receiving = tokio::task::spawn_blocking(move || {
        for index in 0..published {
            let frames = socket.recv_multipart(0).expect("a message");
            assert!(frames == message(index, 1000), "message {index}");
        }
    });
    receiving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_added_is_written_by_a_flush_or_once_it_is_much() {
    let mut server = Server::start(config()).await;
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    // More than half a megabyte, of which the last part is too little to go by itself.
    let large = "x".repeat(100 * 1024);
    for _ in 0..7 {
        let chunk = server.chunk(&[vec![b"t".to_vec(), large.clone().into_bytes()]]);
        server.publisher.add(chunk);
    }
    eventually("six are delivered", || server.origin.delivered() >= 6).await;
    for body in ["small", "end"] {
        let chunk = server.chunk(&[vec![b"t".to_vec(), body.as_bytes().to_vec()]]);
        server.publisher.add(chunk);
    }
    server.publisher.flush();
    server.until_delivered().await;
    let bodies = bodies_until_end(sub).await;
    assert_eq!(bodies.len(), 8);
    assert!(bodies[..7].iter().all(|body| *body == large) && bodies[7] == "small");
}
