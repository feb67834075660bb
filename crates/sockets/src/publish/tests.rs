//! A socket with a stalled peer, and the snapshot of many.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::*;
use crate::chunk::Chunk;
use crate::config::{Limits, SlowPeer};
use crate::ring::LOOKS;

/// Longest time for anything, until a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Frames that a peer sends which takes nothing.
const FRAMES: usize = 200;

/// A greeting, a READY and the subscription to "t" of a SUB.
fn introduction() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes.extend_from_slice(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB");
    bytes.extend_from_slice(b"\x00\x02\x01t");
    bytes
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(LOOK).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "waited in vain until {what}");
}

fn config(slow_peer: SlowPeer) -> PubConfig {
    PubConfig {
        bind: vec!["tcp://127.0.0.1:*".parse().unwrap()],
        connect: Vec::new(),
        slow_peer,
        min_peers: 0,
        ipc_mode: None,
        peer_timeout: None,
        ring_bytes: 1024 * 1024,
        heartbeat: None,
        limits: Limits::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_that_come_together_are_taken_together() {
    const SUBSCRIPTIONS: u32 = 5_000;
    let (socket, _publisher) = PubSocket::start("test", config(SlowPeer::Drop)).await.unwrap();
    let address = socket.endpoints()[0].to_string();
    let mut peer = TcpStream::connect(address.trim_start_matches("tcp://")).await.unwrap();
    let mut bytes = introduction();
    for number in 0..SUBSCRIPTIONS {
        bytes.extend_from_slice(b"\x00\x05\x01");
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    peer.write_all(&bytes).await.unwrap();
    let total = SUBSCRIPTIONS as usize + 1;
    let all =
        || socket.snapshot().peers.first().is_some_and(|peer| peer.subscriptions_total == total);
    eventually("all are taken", all).await;
    let applied = socket.shared.ring().applied;
    assert!(applied < total * 2 / LOOKS, "{applied} holds of the ring");
}

#[tokio::test]
async fn a_snapshot_is_bounded_and_the_counts_name_no_peer() {
    let (socket, _publisher) = PubSocket::start("test", config(SlowPeer::Drop)).await.unwrap();
    let address: std::net::SocketAddr =
        socket.endpoints()[0].to_string().trim_start_matches("tcp://").parse().unwrap();
    let mut peers = Vec::new();
    for number in 1..=5 {
        let mut peer = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
        let mut bytes = introduction();
        bytes.extend_from_slice(b"\x00\xc9\x01");
        bytes.extend_from_slice(&[b'x'; 200]);
        peer.write_all(&bytes).await.unwrap();
        eventually("the peer has subscribed", || socket.counts().peers_subscribed == number).await;
        peers.push(peer);
    }
    let two = |peer: &PeerSnapshot| peer.subscriptions_total == 2;
    eventually("all have both subscriptions", || socket.snapshot().peers.iter().all(two)).await;
    let snapshot = socket.snapshot();
    let listed: Vec<_> = snapshot.peers.iter().map(|peer| peer.subscriptions.len()).collect();
    assert_eq!((snapshot.peers_connected, listed), (5, vec![2, 2, 0]));
    assert_eq!((socket.counts().peers_connected, socket.counts().peers.len()), (5, 0));
    drop(peers);
    eventually("they have gone", || socket.counts().peers_connected == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_is_looked_at_no_more_whatever_it_says() {
    let (socket, mut publisher) = PubSocket::start("test", config(SlowPeer::Drop)).await.unwrap();
    let address = socket.endpoints()[0].to_string();
    let peer = TcpSocket::new_v4().unwrap();
    peer.set_recv_buffer_size(4096).unwrap();
    let mut peer =
        peer.connect(address.trim_start_matches("tcp://").parse().unwrap()).await.unwrap();
    peer.write_all(&introduction()).await.unwrap();
    eventually("the peer has subscribed", || socket.snapshot().peers_subscribed == 1).await;
    // Until the kernel takes no more, and the ring has dropped some.
    let (origin, mut position) = (Origin::new(0), 0);
    while socket.snapshot().peers[0].messages_dropped < 100 {
        let body = vec![b'x'; 10_000];
        let message = [b"\x01\x01t\x02\0\0\0\0\0\0\x27\x10".as_slice(), &body].concat();
        position += 1;
        let ends = vec![message.len()];
        publisher.publish(Chunk::new(message, ends, true, 1, Arc::clone(&origin), position));
        // Its task sees that the kernel takes no more.
        tokio::task::yield_now().await;
    }
    sleep(LOOK).await;
    let looks = socket.shared.ring().looks;
    for _ in 0..FRAMES {
        // A command that no version knows: it is read and ignored.
        peer.write_all(b"\x04\x02\x01X").await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    // All of it has been read once the end has been.
    peer.shutdown().await.unwrap();
    eventually("the peer has left", || socket.snapshot().peers_subscribed == 0).await;
    // The kernel may have taken some more meanwhile.
    assert!(socket.shared.ring().looks - looks < FRAMES / 4);
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, peer.read_to_end(&mut rest)).await;
}
