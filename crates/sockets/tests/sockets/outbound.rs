//! DEALER and PUSH against real libzmq peers.

use tokio::time::timeout;
use zafka_sockets::{Endpoint, OutboundEvent, OutboundKind, OutboundSocket, Outlet, put_message};

use crate::support::{PATIENCE, zmq_socket};

async fn next(socket: &mut OutboundSocket) -> OutboundEvent {
    timeout(PATIENCE, socket.next()).await.expect("an event")
}

/// Waits for a connection; attempts that fail before are passed over.
async fn connected(socket: &mut OutboundSocket) -> Outlet {
    loop {
        match next(socket).await {
            OutboundEvent::Connected(outlet) => return outlet,
            OutboundEvent::Disconnected(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn send(outlet: &Outlet, messages: &[&[&str]]) {
    let mut chunk = Vec::new();
    messages.iter().for_each(|frames| put_message(&mut chunk, frames));
    let slot = timeout(PATIENCE, outlet.reserve()).await.expect("room");
    slot.expect("a connection").send(chunk);
}

/// A libzmq socket on a free port, and its endpoint.
fn bound(kind: zmq::SocketType) -> (zmq::Socket, String) {
    let socket = zmq_socket(kind);
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let address = socket.get_last_endpoint().unwrap().unwrap();
    (socket, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_answers_a_dealer() {
    let (router, address) = bound(zmq::ROUTER);
    let mut dealer =
        OutboundSocket::new(OutboundKind::Dealer, address.parse::<Endpoint>().unwrap());
    let outlet = connected(&mut dealer).await;
    let long = "x".repeat(100_000);
    send(&outlet, &[&["a", "", &long], &["b"]]).await;
    for expected in [vec!["a", "", &long], vec!["b"]] {
        let frames = router.recv_multipart(0).unwrap();
        let (peer, message) = frames.split_first().unwrap();
        assert_eq!(message, expected.iter().map(|frame| frame.as_bytes()).collect::<Vec<_>>());
        router.send_multipart([peer.as_slice(), b"OK", b"{}"], 0).unwrap();
    }
    let (mut written, mut answers) = (0, 0);
    while answers < 2 {
        match next(&mut dealer).await {
            OutboundEvent::Written => written += 1,
            OutboundEvent::Message(frames) => {
                assert_eq!(frames, [&b"OK"[..], b"{}"]);
                answers += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(written, 1, "one chunk was given");
    assert!(dealer.try_next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_connection_was_given_is_not_sent_by_the_next() {
    let (router, address) = bound(zmq::ROUTER);
    let mut dealer =
        OutboundSocket::new(OutboundKind::Dealer, address.parse::<Endpoint>().unwrap());
    let first = connected(&mut dealer).await;
    drop(router);
    let reason = loop {
        match next(&mut dealer).await {
            OutboundEvent::Disconnected(reason) => break reason,
            OutboundEvent::Connected(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason, "the other side closed the connection");
    assert!(first.reserve().await.is_none());
    let router = zmq_socket(zmq::ROUTER);
    router.bind(&address).unwrap();
    let second = connected(&mut dealer).await;
    send(&second, &[&["again"]]).await;
    assert_eq!(router.recv_multipart(0).unwrap()[1], b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_has_read_everything_when_a_push_is_finished() {
    const MESSAGES: usize = 20_000;
    let (pull, address) = bound(zmq::PULL);
    let mut push = OutboundSocket::new(OutboundKind::Push, address.parse::<Endpoint>().unwrap());
    let outlet = connected(&mut push).await;
    let sender = tokio::spawn(async move {
        for number in 0..MESSAGES {
            send(&outlet, &[&["k", &number.to_string(), &"v".repeat(100)]]).await;
        }
    });
    let reader = tokio::task::spawn_blocking(move || {
        let numbers = (0..MESSAGES).map(|_| pull.recv_multipart(0).unwrap().remove(1));
        (numbers.collect::<Vec<_>>(), pull)
    });
    let mut written = 0;
    loop {
        match next(&mut push).await {
            OutboundEvent::Written => written += 1,
            OutboundEvent::Finished => break,
            other => panic!("{other:?}"),
        }
    }
    sender.await.unwrap();
    let (numbers, _pull) = reader.await.unwrap();
    let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string().into_bytes()).collect();
    assert_eq!((written, numbers), (MESSAGES, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_another_pattern_is_told() {
    let (_pull, address) = bound(zmq::PULL);
    let mut dealer =
        OutboundSocket::new(OutboundKind::Dealer, address.parse::<Endpoint>().unwrap());
    match next(&mut dealer).await {
        OutboundEvent::Disconnected(reason) => assert!(reason.contains("PULL"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
