//! Slow peers: `drop` and `block`, and how many peers there must be.

use std::sync::Arc;

use zafka_sockets::Origin;
use zafka_sockets::config::{PubConfig, SlowPeer};

use crate::raw::{RawPeer, command};
use crate::support::{PATIENCE, Server, bodies_until_end, config, eventually, zmq_sub};

const RING_BYTES: usize = 512 * 1024;
const BODY_BYTES: usize = 32 * 1024;

/// A peer that has subscribed to "t" and does not read.
async fn stalled(server: &Server) -> RawPeer {
    let mut peer = RawPeer::connect_small(&server.address()).await;
    peer.shake_hands(1).await;
    peer.subscribe("t").await;
    peer
}

/// Message `index`, about 32 KiB.
fn big(index: usize) -> Vec<Vec<u8>> {
    vec![b"t".to_vec(), index.to_be_bytes().to_vec(), vec![b'x'; BODY_BYTES]]
}

/// The number of a message that begins with the next frame.
async fn number(peer: &mut RawPeer) -> usize {
    assert_eq!(peer.frame().await, (1, b"t".to_vec()));
    let number = peer.frame().await.1;
    assert_eq!(peer.frame().await, (2, vec![b'x'; BODY_BYTES]));
    usize::from_be_bytes(number.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_leaves_the_slow_behind_and_counts() {
    const COUNT: usize = 2000;
    let mut server =
        Server::start(PubConfig { slow_peer: SlowPeer::Drop, ring_bytes: RING_BYTES, ..config() })
            .await;
    let mut slow = stalled(&server).await;
    server.until_subscribed(1).await;
    let slow_address = server.socket.snapshot().peers[0].address.clone();
    let quick = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(2).await;
    let reading = tokio::task::spawn_blocking(move || {
        for index in 0..COUNT {
            assert!(quick.recv_multipart(0).expect("a message") == big(index), "message {index}");
        }
        quick
    });
    for index in 0..COUNT {
        server.publish(&[big(index)]).await;
        // The quick one is given the time it takes to read; the slow one never catches up.
        eventually("the quick peer has it", || {
            let snapshot = server.socket.snapshot();
            assert!(snapshot.ring_bytes <= RING_BYTES + BODY_BYTES + 1024);
            snapshot.peers.iter().any(|peer| peer.address != slow_address && peer.bytes_queued == 0)
        })
        .await;
    }
    reading.await.unwrap();
    let view = |server: &Server| {
        let peers = server.socket.snapshot().peers;
        peers.into_iter().find(|peer| peer.address == slow_address).unwrap()
    };
    assert!(view(&server).messages_dropped > 0);
    assert_eq!(server.socket.snapshot().counters.messages_dropped, view(&server).messages_dropped);
    // What is left for it comes whole, in order, and up to the end.
    let mut received = vec![number(&mut slow).await];
    while received.last() != Some(&(COUNT - 1)) {
        let next = number(&mut slow).await;
        assert!(next > received[received.len() - 1]);
        received.push(next);
    }
    server.until_delivered().await;
    let view = view(&server);
    assert_eq!(view.messages_sent, received.len() as u64);
    assert_eq!(view.messages_sent + view.messages_dropped, COUNT as u64, "each is sent or counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_does_not_push_out_what_was_not_written_yet() {
    let mut server =
        Server::start(PubConfig { slow_peer: SlowPeer::Drop, ring_bytes: RING_BYTES, ..config() })
            .await;
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    let large = "x".repeat(RING_BYTES);
    for body in ["small", &large, "end"] {
        let chunk = server.chunk(&[vec![b"t".to_vec(), body.as_bytes().to_vec()]]);
        server.publisher.add(chunk);
    }
    server.publisher.flush();
    server.until_delivered().await;
    assert_eq!(server.socket.snapshot().counters.messages_dropped, 0);
    assert_eq!(bodies_until_end(sub).await, ["small", &large]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_waits_for_the_slow_and_loses_nothing() {
    let mut server = Server::start(PubConfig { ring_bytes: RING_BYTES, ..config() }).await;
    let mut slow = stalled(&server).await;
    server.until_subscribed(1).await;
    let mut count = 0;
    while server.publisher.admits(BODY_BYTES + 100) {
        server.publish(&[big(count)]).await;
        count += 1;
        // The kernel may take what is there before it is full.
        tokio::task::yield_now().await;
    }
    assert!(server.socket.snapshot().ring_bytes <= RING_BYTES);
    assert!(
        server.origin.delivered() < server.position,
        "what waits in our memory is not delivered"
    );
    let total = count + 50;
    let reading = tokio::spawn(async move {
        for index in 0..total {
            assert_eq!(number(&mut slow).await, index);
        }
    });
    for index in count..total {
        server.publish(&[big(index)]).await;
    }
    reading.await.unwrap();
    server.until_delivered().await;
    assert_eq!(server.socket.snapshot().counters.messages_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_leaves_is_owed_nothing_more() {
    let mut server = Server::start(PubConfig { ring_bytes: RING_BYTES, ..config() }).await;
    let slow = stalled(&server).await;
    server.until_subscribed(1).await;
    let mut count = 0;
    while server.publisher.admits(BODY_BYTES + 100) {
        server.publish(&[big(count)]).await;
        count += 1;
        tokio::task::yield_now().await;
    }
    drop(slow);
    server.until_delivered().await;
    assert!(server.publisher.admits(RING_BYTES / 2));
    assert!(server.socket.snapshot().counters.bytes_unsent > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_to_too_few_does_not_count_as_delivered() {
    let mut server =
        Server::start(PubConfig { min_peers: 1, ring_bytes: RING_BYTES, ..config() }).await;
    let [wanted, other] = ["t", "u"].map(|frame| server.socket.demand(Some(frame.into()), None));
    assert!(!wanted.is_enough() && !other.is_enough(), "nobody is there");
    let slow = stalled(&server).await;
    let changed = tokio::time::timeout(PATIENCE, server.socket.demand_changed());
    changed.await.expect("word of the peer that is there");
    assert!(wanted.is_enough() && !other.is_enough());
    assert_eq!((wanted.peers(), wanted.needed()), (1, 1));
    server.origin = Origin::with(0, Some(Arc::clone(&wanted)), None);
    let mut count = 0;
    while server.publisher.admits(BODY_BYTES + 100) {
        server.publish(&[big(count)]).await;
        count += 1;
        tokio::task::yield_now().await;
    }
    drop(slow);
    eventually("the peer has left", || !wanted.is_enough()).await;
    let mut next = RawPeer::connect(&server.address()).await;
    next.shake_hands(1).await;
    next.subscribe("t").await;
    eventually("another is there", || wanted.is_enough()).await;
    // It is not owed what was in the ring then, and that is not delivered, nor is what follows.
    server.publish(&[big(count)]).await;
    assert_eq!(number(&mut next).await, count);
    eventually("all has left the ring", || server.socket.snapshot().ring_bytes == 0).await;
    assert!(server.origin.is_short());
    assert!(server.origin.delivered() < count as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_is_not_sent_but_for_what_is_half_written() {
    let mut server = Server::start(PubConfig { ring_bytes: RING_BYTES, ..config() }).await;
    let mut slow = stalled(&server).await;
    server.until_subscribed(1).await;
    let mut count = 0;
    while server.publisher.admits(BODY_BYTES + 100) {
        server.publish(&[big(count)]).await;
        count += 1;
        tokio::task::yield_now().await;
    }
    let origin = Arc::clone(&server.origin);
    server.socket.withdraw(&origin);
    let delivered = origin.delivered();
    let chunk = server.chunk(&[big(count)]);
    server.publisher.publish(chunk);
    server.origin = Origin::new(server.position);
    server.publish(&[vec![b"t".to_vec(), b"end".to_vec()]]).await;
    let mut received = 0_usize;
    loop {
        assert_eq!(slow.frame().await, (1, b"t".to_vec()));
        let (flags, body) = slow.frame().await;
        if flags == 0 {
            assert_eq!(body, b"end");
            break;
        }
        assert_eq!(body, received.to_be_bytes());
        assert_eq!(slow.frame().await.1.len(), BODY_BYTES);
        received += 1;
    }
    assert!(received < count);
    assert!(received as i64 >= delivered);
    assert_eq!(origin.delivered(), delivered, "it does not move any more");
    server.until_delivered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_ring_is_admitted_alone() {
    let mut server = Server::start(PubConfig { ring_bytes: 1000, ..config() }).await;
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    for body in ["a".repeat(100_000), "b".repeat(100_000), "end".to_owned()] {
        server.send("t", &body).await;
    }
    let bodies = bodies_until_end(sub).await;
    assert_eq!(bodies, ["a".repeat(100_000), "b".repeat(100_000)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_go_between_messages_also_where_writes_are_cut() {
    const PINGS: usize = 200;
    let mut server = Server::start(PubConfig { ring_bytes: RING_BYTES, ..config() }).await;
    let mut slow = stalled(&server).await;
    server.until_subscribed(1).await;
    let mut count = 0;
    while server.publisher.admits(BODY_BYTES + 100) {
        server.publish(&[big(count)]).await;
        count += 1;
        tokio::task::yield_now().await;
    }
    let total = count + 50;
    let publishing = tokio::spawn(async move {
        for index in count..total {
            server.publish(&[big(index)]).await;
        }
        server
    });
    let (mut messages, mut pongs) = (0, 0);
    for ping in 0..PINGS {
        slow.send(&command(format!("\x04PING\0\0{ping}").as_bytes())).await;
    }
    while messages < total || pongs < PINGS {
        let (flags, body) = slow.frame().await;
        if flags == 4 {
            assert_eq!(body, format!("\x04PONG{pongs}").as_bytes());
            pongs += 1;
            continue;
        }
        // From here to the end of the message no command may come.
        assert_eq!((flags, body), (1, b"t".to_vec()));
        assert_eq!(slow.frame().await, (1, messages.to_be_bytes().to_vec()));
        assert_eq!(slow.frame().await, (2, vec![b'x'; BODY_BYTES]));
        messages += 1;
    }
    publishing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kernel_holds_survives_the_close_also_where_the_peer_talks_on() {
    const COUNT: usize = 8;
    let mut server = Server::start(config()).await;
    let mut slow = stalled(&server).await;
    server.until_subscribed(1).await;
    for index in 0..COUNT {
        server.publish(&[big(index)]).await;
    }
    // All of it is in the kernel, most of it on our side.
    server.until_delivered().await;
    let (closed, talked) = tokio::join!(server.socket.close(), async {
        for _ in 0..10 {
            slow.send(&command(b"\x04PING\0\0")).await;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        slow
    });
    let () = closed;
    let mut slow = talked;
    for index in 0..COUNT {
        assert_eq!(number(&mut slow).await, index);
        slow.send(&command(b"\x04PING\0\0")).await;
    }
}
