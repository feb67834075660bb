//! Subscriptions: prefixes, counted subscriptions, late subscribers, several endpoints.

use crate::raw::{RawPeer, command};
use crate::support::{Server, bodies_until_end, config, endpoint, eventually, zmq_sub};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_choose() {
    let mut server = Server::start(config()).await;
    let cases: [(&[&str], &[&str]); 5] = [
        (&[""], &["1", "2", "3", "4"]),
        (&["orders"], &["1", "2"]),
        (&["orders.eu"], &["2"]),
        (&["orders", "orders.eu", "pay"], &["1", "2", "3"]),
        (&["orders.us"], &[]),
    ];
    let mut subs: Vec<_> =
        cases.iter().map(|(prefixes, _)| zmq_sub(&server.address(), prefixes)).collect();
    for sub in &subs {
        sub.set_subscribe(b"all").unwrap();
    }
    eventually("all subscriptions are there", || {
        let peers = server.socket.snapshot().peers;
        peers.iter().map(|peer| peer.subscriptions_total).sum::<usize>() == 12
    })
    .await;
    let messages =
        [("orders", "1"), ("orders.eu", "2"), ("payments", "3"), ("", "4"), ("all", "end")];
    let messages = messages.map(|(topic, body)| vec![topic.into(), body.into()]);
    server.publish(&messages).await;
    for (sub, (prefixes, expected)) in subs.drain(..).zip(cases) {
        assert_eq!(bodies_until_end(sub).await, expected, "{prefixes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_counted() {
    // By hand: libzmq sends each of its subscriptions, but of the cancels of one prefix only the
    // last.
    let mut server = Server::start(config()).await;
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    // Messages and commands count alike.
    peer.subscribe("a").await;
    peer.send(&command(b"\x09SUBSCRIBEa")).await;
    peer.subscribe("z").await;
    peer.send(&[0, 2, 0, b'a']).await;
    peer.subscribe("b").await;
    eventually("b is subscribed", || subscriptions(&server).contains(&b"b".to_vec())).await;
    assert_eq!(subscriptions(&server), [b"a", b"b", b"z"]);
    server.send("a", "1").await;
    peer.send(&command(b"\x06CANCELa")).await;
    eventually("a is canceled", || subscriptions(&server) == [b"b", b"z"]).await;
    server.send("a", "2").await;
    server.send("b", "3").await;
    for (flags, body) in [(1, "a"), (0, "1"), (1, "b"), (0, "3")] {
        assert_eq!(peer.frame().await, (flags, body.into()));
    }
    assert_eq!(server.socket.snapshot().counters.unheard, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libzmq_cancels() {
    let mut server = Server::start(config()).await;
    let sub = zmq_sub(&server.address(), &["a", "b"]);
    eventually("both are subscribed", || subscriptions(&server) == [b"a", b"b"]).await;
    sub.set_unsubscribe(b"a").unwrap();
    eventually("a is canceled", || subscriptions(&server) == [b"b"]).await;
    server.send("a", "1").await;
    server.send("b", "end").await;
    assert!(bodies_until_end(sub).await.is_empty());
    assert_eq!(server.socket.snapshot().counters.messages_sent, 1);
}

fn subscriptions(server: &Server) -> Vec<Vec<u8>> {
    server
        .socket
        .snapshot()
        .peers
        .first()
        .map(|peer| peer.subscriptions.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_subscriber_begins_at_the_live_end() {
    let mut server = Server::start(config()).await;
    server.send("t", "nobody hears this").await;
    assert_eq!(server.origin.delivered(), 1, "with nobody there, messages count as delivered");
    let first = zmq_sub(&server.address(), &[""]);
    server.until_subscribed(1).await;
    server.send("t", "1").await;
    let second = zmq_sub(&server.address(), &[""]);
    server.until_subscribed(2).await;
    server.send("t", "2").await;
    server.send("t", "end").await;
    assert_eq!(bodies_until_end(first).await, ["1", "2"]);
    assert_eq!(bodies_until_end(second).await, ["2"]);
    assert_eq!(server.socket.snapshot().counters.unheard, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_endpoints_serve_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("ipc://{}", directory.path().join("s").display());
    let mut config = config();
    config.bind.push(endpoint(&path));
    let mut server = Server::start(config).await;
    let subs: Vec<_> =
        server.socket.endpoints().iter().map(|at| zmq_sub(&at.to_string(), &["t"])).collect();
    server.until_subscribed(2).await;
    let addresses: Vec<_> =
        server.socket.snapshot().peers.into_iter().map(|peer| peer.address).collect();
    assert!(addresses.contains(&directory.path().join("s").display().to_string()), "{addresses:?}");
    server.send("t", "1").await;
    server.send("t", "end").await;
    for sub in subs {
        assert_eq!(bodies_until_end(sub).await, ["1"]);
    }
}
