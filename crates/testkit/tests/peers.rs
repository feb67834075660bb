//! Every peer receives from a libzmq PUB, byte for byte, also when it was stopped for a while.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use zafka_testkit::peers::{Kind, LibzmqSub, Peer};
use zafka_testkit::ports::free_port;

const MINUTE: Duration = Duration::from_secs(60);

fn message(number: usize) -> Vec<Vec<u8>> {
    vec![
        b"orders".to_vec(),
        vec![],
        vec![0, 255, (number % 256) as u8],
        number.to_string().into_bytes(),
    ]
}

/// An XPUB that has seen a subscription to "orders".
fn publisher(endpoint: &str, start: impl FnOnce() -> Peer) -> (zmq::Socket, Peer) {
    let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
    socket.set_rcvtimeo(60_000).unwrap();
    socket.set_sndhwm(0).unwrap();
    socket.bind(endpoint).unwrap();
    let peer = start();
    assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01orders");
    (socket, peer)
}

fn receives_everything(kind: Kind) {
    let endpoint = format!("tcp://127.0.0.1:{}", free_port());
    let start = || Peer::spawn(kind, &endpoint, &["orders"], 1000);
    let (socket, mut peer) = publisher(&endpoint, start);
    let expected: Vec<_> = (0..1000).map(message).collect();
    for message in &expected {
        socket.send_multipart(message, 0).unwrap();
        socket.send_multipart([b"other".to_vec()], 0).unwrap();
    }
    assert_eq!(peer.wait_messages(1000, MINUTE), expected);
    assert!(peer.wait_exit(MINUTE).unwrap().success(), "{}", peer.process().log());
}

#[test]
fn libzmq_receives_everything() {
    let socket = zmq::Context::new().socket(zmq::XPUB).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let sub = LibzmqSub::connect(&endpoint, &["orders"]);
    assert_eq!(socket.recv_bytes(0).unwrap(), b"\x01orders");
    for number in 0..500 {
        socket.send_multipart(message(number), 0).unwrap();
    }
    let expected: Vec<_> = (0..500).map(message).collect();
    assert_eq!(sub.wait_messages(500, MINUTE), expected);
}

#[test]
#[ignore = "needs Python"]
fn python_receives_everything() {
    receives_everything(Kind::Python);
}

#[test]
#[ignore = "needs Python"]
fn a_stopped_python_goes_on_where_it_was() {
    let endpoint = format!("tcp://127.0.0.1:{}", free_port());
    let (socket, mut peer) =
        publisher(&endpoint, || Peer::spawn(Kind::Python, &endpoint, &["orders"], 0));
    socket.send_multipart(message(0), 0).unwrap();
    peer.wait_messages(1, MINUTE);
    peer.stop();
    for number in 1..5000 {
        socket.send_multipart(message(number), 0).unwrap();
    }
    assert_eq!(peer.messages().len(), 1);
    peer.cont();
    let expected: Vec<_> = (0..5000).map(message).collect();
    assert_eq!(peer.wait_messages(5000, MINUTE), expected);
}

#[test]
#[ignore = "needs Node"]
fn node_receives_everything() {
    receives_everything(Kind::Node);
}

#[test]
#[ignore = "needs Go and libzmq3-dev"]
fn go_on_libzmq_receives_everything() {
    receives_everything(Kind::GoPebbe);
}

#[test]
#[ignore = "needs Go"]
fn go_alone_receives_everything() {
    receives_everything(Kind::GoPure);
}

#[test]
#[ignore = "needs Java and Maven"]
fn java_receives_everything() {
    receives_everything(Kind::Java);
}

#[test]
#[ignore = "needs the crate registry"]
fn rust_receives_everything() {
    receives_everything(Kind::Rust);
}
