//! A thousand connections leave nothing behind, and peers leave files to others. A binary of its
//! own: it counts the process's file descriptors, and limits them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

#[path = "sockets/raw.rs"]
#[allow(dead_code)]
mod raw;
#[path = "sockets/support.rs"]
#[allow(dead_code)]
mod support;

use std::time::Duration;

use raw::{RawPeer, greeting};
use support::{Server, bodies_until_end, config, endpoint, eventually, zmq_socket, zmq_sub};
use zafka_sockets::{Content, Inbound, InboundConfig, InboundKind, InboundSocket};

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_leave_nothing_behind_and_files_to_others() {
    leave_nothing_behind().await;
    nobody_is_left().await;
    senders_leave_nothing_behind().await;
    nobody_is_left().await;
    silent_connections_are_bounded().await;
    nobody_is_left().await;
    leave_files_to_others().await;
    nobody_is_left().await;
    senders_leave_files_to_others().await;
}

/// The sockets before are gone, with their connections.
async fn nobody_is_left() {
    eventually("the tasks of the others have ended", || tasks() == 0).await;
}

/// Limits the process's files for as long as it lives.
struct FileLimit(rustix::process::Rlimit);

impl FileLimit {
    fn set(files: u64) -> Self {
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let low = rustix::process::Rlimit { current: Some(files), ..before };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
        Self(before)
    }
}

impl Drop for FileLimit {
    fn drop(&mut self) {
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, self.0);
    }
}

/// Connects to `address` until `refused` says that a connection was refused. Returns the others.
async fn connect_until(
    address: &str,
    socket_type: &str,
    refused: impl Fn() -> bool,
) -> Vec<RawPeer> {
    let mut peers = Vec::new();
    while !refused() {
        let before = open_files();
        let mut peer = RawPeer::connect(address).await;
        // Its client is in this process too.
        let settled = || open_files() >= before + 2 || refused();
        eventually("it is accepted or refused", settled).await;
        // One that has been accepted may be refused in the next moment.
        if !refused() && peer.try_to_shake_hands_as(socket_type, 1).await.is_err() {
            eventually("it is refused", &refused).await;
        }
        peers.push(peer);
    }
    peers
}

/// Connections that say nothing wait for a place, up to a part of the files; others are closed at
/// once, and who comes from somewhere else is served.
async fn silent_connections_are_bounded() {
    // So many may wait that all files are not enough for twice of them.
    const LIMIT: u64 = 1600;
    let _limit = FileLimit::set(LIMIT);
    let mut server = Server::start(config()).await;
    let refused = || server.closed("handshake_limit") > 0;
    // More than have a place and may wait. All at once: those that have a place lose it after a
    // second, and one that waits gets it.
    let (address, mut silent) = (server.address(), Vec::new());
    for _ in 0..500 {
        silent.push(RawPeer::connect(&address).await);
    }
    eventually("one of them is refused", refused).await;
    let mut other = RawPeer::connect_from([127, 0, 0, 2], &server.address()).await.unwrap();
    other.shake_hands(1).await;
    other.subscribe("t").await;
    server.until_subscribed(1).await;
    server.send("t", "x").await;
    assert_eq!(other.frame().await, (1, b"t".to_vec()));
    assert_eq!(server.closed("file_limit"), 0);
}

/// Peers that take all files they get leave some for brokers and the admin server, and the socket
/// goes on.
async fn leave_files_to_others() {
    const LIMIT: u64 = 200;
    let _limit = FileLimit::set(LIMIT);
    let mut server = Server::start(config()).await;
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    let refused = || server.closed("file_limit") > 0;
    let peers = connect_until(&server.address(), "SUB", refused).await;
    let free = LIMIT as usize - open_files();
    assert!(free >= LIMIT as usize / 4 - 5, "{free} of {LIMIT} files are free");
    let others: Vec<_> =
        (0..free - 10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    server.send("t", "end").await;
    bodies_until_end(sub).await;
    drop((others, peers));
}

/// The frames of a message that came alone.
fn frames(inbound: Inbound) -> Vec<Vec<u8>> {
    match inbound.content {
        Content::Messages(messages) if messages.len() == 1 => {
            messages.frames(0).map(<[u8]>::to_vec).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn inbound() -> InboundConfig {
    InboundConfig {
        kind: InboundKind::Pull,
        bind: vec![endpoint("tcp://127.0.0.1:*")],
        ipc_mode: None,
        connect: Vec::new(),
        heartbeat: None,
        max_peers: 1000,
        max_message: 1 << 20,
        peer_memory: 16 << 20,
        handshake_timeout: Duration::from_secs(5),
        in_flight_bytes: 1 << 20,
    }
}

/// The same of senders.
async fn senders_leave_files_to_others() {
    const LIMIT: u64 = 200;
    let _limit = FileLimit::set(LIMIT);
    let (socket, mut messages) = InboundSocket::start("test", inbound()).await.unwrap();
    let address = socket.endpoints()[0].to_string();
    let push = zmq_socket(zmq::PUSH);
    push.connect(&address).unwrap();
    push.send("1", 0).unwrap();
    assert_eq!(frames(messages.recv().await.unwrap()), [b"1"]);
    let refused = || socket.snapshot().closed.iter().any(|(reason, _)| *reason == "file_limit");
    let peers = connect_until(&address, "PUSH", refused).await;
    let free = LIMIT as usize - open_files();
    assert!(free >= LIMIT as usize / 4 - 5, "{free} of {LIMIT} files are free");
    push.send("2", 0).unwrap();
    assert_eq!(frames(messages.recv().await.unwrap()), [b"2"]);
    drop(peers);
}

async fn senders_leave_nothing_behind() {
    let (socket, mut messages) = InboundSocket::start("test", inbound()).await.unwrap();
    let address = socket.endpoints()[0].to_string();
    assert_eq!(tasks(), 1, "its listener");
    let (files, tasks_before) = (open_files(), tasks());
    for round in 0..20 {
        let mut peers = Vec::new();
        for index in 0..50 {
            let mut peer = RawPeer::connect(&address).await;
            match (round + index) % 4 {
                // At once, in the handshake, after it, and within a message after a whole one.
                0 => {}
                1 => peer.send(&greeting(1)[..20]).await,
                2 => peer.shake_hands_as("PUSH", 1).await,
                _ => {
                    peer.shake_hands_as("PUSH", 1).await;
                    peer.send(b"\x00\x01x\x00\x02x").await;
                    assert_eq!(frames(messages.recv().await.unwrap()), [b"x"]);
                }
            }
            peers.push(peer);
        }
    }
    eventually("all files are closed", || open_files() == files).await;
    eventually("all tasks have ended", || tasks() == tasks_before).await;
    let snapshot = socket.snapshot();
    assert_eq!((snapshot.senders.len(), snapshot.bytes_in_flight), (0, 0));
    let closed: u64 = snapshot.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(closed, 1000, "{:?}", snapshot.closed);
}

async fn leave_nothing_behind() {
    let mut server = Server::start(config()).await;
    assert_eq!(tasks(), 1, "its listener");
    let (files, tasks_before) = (open_files(), tasks());
    for round in 0..20 {
        let mut peers = Vec::new();
        for index in 0..50 {
            let mut peer = RawPeer::connect(&server.address()).await;
            match (round + index) % 4 {
                // At once, in the handshake, after it, and with messages unread.
                0 => {}
                1 => peer.send(&greeting(1)[..20]).await,
                2 => peer.shake_hands(1).await,
                _ => {
                    peer.shake_hands(0).await;
                    peer.subscribe(&format!("t{index}")).await;
                    peer.subscribe("t").await;
                }
            }
            peers.push(peer);
        }
        for _ in 0..10 {
            server.send("t7", &"x".repeat(1000)).await;
        }
    }
    eventually("all files are closed", || open_files() == files).await;
    eventually("all tasks have ended", || tasks() == tasks_before).await;
    let snapshot = server.socket.snapshot();
    let peers = (snapshot.peers.len(), snapshot.peers_connected, snapshot.peers_subscribed);
    assert_eq!((peers, snapshot.ring_bytes), ((0, 0, 0), 0));
    assert_eq!(
        snapshot.closed.iter().map(|(_, count)| count).sum::<u64>(),
        1000,
        "{:?}",
        snapshot.closed
    );
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    server.send("t", "end").await;
    bodies_until_end(sub).await;
}
