//! Peers from which nothing comes: those that are full are waited for under `block`, those that are
//! gone are not.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use zafka_sockets::config::{Heartbeat, PubConfig, SlowPeer};
use zafka_sockets::{Endpoint, Port, WaitKind};

use crate::netns::Machine;
use crate::raw::{RawPeer, command, greeting, ready, subscription};
use crate::support::{Server, config, endpoint, eventually};

const RING_BYTES: usize = 256 * 1024;
const BODY_BYTES: usize = 16 * 1024;

/// Publishes while there is room. Returns how many messages were published.
async fn fill(server: &mut Server) -> usize {
    let mut count = 0;
    while server.publisher.admits(BODY_BYTES + 100) {
        server.publish(&[vec![b"t".to_vec(), vec![b'x'; BODY_BYTES]]]).await;
        count += 1;
        tokio::task::yield_now().await;
    }
    count
}

/// Reads so many messages; commands between them do not count.
async fn read_messages(peer: &mut RawPeer, count: usize) {
    for _ in 0..count {
        let mut frame = peer.frame().await;
        while frame.0 & 4 != 0 {
            frame = peer.frame().await;
        }
        assert_eq!(frame, (1, b"t".to_vec()));
        assert_eq!(peer.frame().await.1.len(), BODY_BYTES);
    }
}

async fn subscribed(mut peer: RawPeer) -> RawPeer {
    peer.shake_hands(1).await;
    peer.subscribe("t").await;
    peer
}

fn has_peer(server: &Server, address: &str) -> bool {
    server.socket.snapshot().peers.iter().any(|peer| peer.address == address)
}

fn port(server: &Server) -> u16 {
    match &server.socket.endpoints()[0] {
        Endpoint::Tcp { port: Port::Number(port), .. } => *port,
        other => panic!("{other} is not tcp"),
    }
}

fn on_every_interface() -> PubConfig {
    PubConfig {
        bind: vec![endpoint("tcp://*:*")],
        ring_bytes: RING_BYTES,
        peer_timeout: Some(Duration::from_secs(1)),
        ..config()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and iproute2"]
async fn a_full_peer_that_vanishes_is_closed_and_one_that_lives_is_not() {
    let mut server = Server::start(on_every_interface()).await;
    let (gone, lives) = (Machine::start(1), Machine::start(2));
    let full = subscribed(gone.connect(port(&server))).await;
    let mut living = subscribed(lives.connect(port(&server))).await;
    server.until_subscribed(2).await;
    let count = fill(&mut server).await;
    let gone_address = full.0.local_addr().unwrap().to_string();
    let living_address = living.0.local_addr().unwrap().to_string();
    eventually("a wait for a peer is told", || {
        server.socket.waits().iter().any(|wait| wait.peer.is_some())
    })
    .await;
    let wait = server.socket.waits().remove(0);
    assert_eq!(wait.kind, WaitKind::Peer);
    assert!(wait.peer.is_some_and(|peer| [&gone_address, &living_address].contains(&&peer)));

    gone.vanish();
    server.until_closed("peer_timeout").await;
    assert_eq!(server.closed("peer_timeout"), 1);
    assert!(!has_peer(&server, &gone_address) && has_peer(&server, &living_address));
    let wait = server.socket.waits().remove(0);
    assert_eq!(wait.peer, Some(living_address));

    read_messages(&mut living, count).await;
    server.until_delivered().await;
    assert!(server.publisher.admits(BODY_BYTES));
    assert_eq!(server.socket.waits().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and iproute2"]
async fn a_machine_that_vanishes_while_it_reads_is_closed_once_it_holds_the_route() {
    let mut server = Server::start(on_every_interface()).await;
    let gone = Machine::start(3);
    let _quick = subscribed(gone.connect(port(&server))).await;
    server.until_subscribed(1).await;
    gone.vanish();
    fill(&mut server).await;
    server.until_closed("peer_timeout").await;
    server.until_delivered().await;
    assert!(server.publisher.admits(BODY_BYTES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_do_not_close_a_peer_that_is_full_under_block() {
    let heartbeat =
        Heartbeat { interval: Duration::from_millis(50), timeout: Duration::from_millis(200) };
    // More than the kernels hold; and so little that for all that can be seen from here the peer
    // may have read it.
    for count in [400, 1] {
        let config = PubConfig { heartbeat: Some(heartbeat), ..config() };
        let mut server = Server::start(config).await;
        let message = vec![vec![b"t".to_vec(), vec![b'x'; BODY_BYTES]]];
        let chunks: Vec<_> = (0..count).map(|_| server.chunk(&message)).collect();
        // It says all it has to say at once, and is written to as soon as it has.
        let mut full = RawPeer::connect_small(&server.address()).await;
        full.send(&[greeting(1), ready("SUB"), subscription(b"t")].concat()).await;
        server.until_subscribed(1).await;
        chunks.into_iter().for_each(|chunk| server.publisher.publish(chunk));
        // A peer that is silent though it has nothing to read is closed: twice, when the other has
        // been silent for longer.
        for closed in 1..=2 {
            let mut silent = RawPeer::connect(&server.address()).await;
            silent.shake_hands(1).await;
            eventually("the silent peer is closed", || server.closed("heartbeat") >= closed).await;
            silent.rest().await;
        }
        assert_eq!(server.closed("heartbeat"), 2, "{count} messages");
        assert!(has_peer(&server, &full.0.local_addr().unwrap().to_string()));
        full.0.read_exact(&mut [0; 64]).await.unwrap();
        read_messages(&mut full, count).await;
        server.until_delivered().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_read_everything_is_closed_for_its_silence() {
    // Long enough for a loaded machine to come to the answers in time.
    let heartbeat =
        Heartbeat { interval: Duration::from_millis(100), timeout: Duration::from_secs(2) };
    let read_and_fall_silent = async |slow_peer| {
        let config = PubConfig { heartbeat: Some(heartbeat), slow_peer, ..config() };
        let mut server = Server::start(config).await;
        let mut peer = subscribed(RawPeer::connect(&server.address()).await).await;
        server.until_subscribed(1).await;
        server.send("t", "x").await;
        // Its answers show that it has read the message; then it says nothing more.
        while peer.frame().await != (0, b"x".to_vec()) {}
        for _ in 0..3 {
            while peer.frame().await.1 != b"\x04PING\0\x14" {}
            peer.send(&command(b"\x04PONG")).await;
        }
        server.until_closed("heartbeat").await;
        peer.rest().await;
    };
    tokio::join!(read_and_fall_silent(SlowPeer::Block), read_and_fall_silent(SlowPeer::Drop));
}
