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

use raw::{RawPeer, greeting};
use support::{Server, bodies_until_end, config, eventually, zmq_sub};

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
    leave_files_to_others().await;
}

/// Peers that take all files they get leave some for brokers and the admin server, and the socket
/// goes on.
async fn leave_files_to_others() {
    const LIMIT: u64 = 200;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let low = rustix::process::Rlimit { current: Some(LIMIT), ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, low).unwrap();
    let mut server = Server::start(config()).await;
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    let mut peers = Vec::new();
    while server.closed("file_limit") == 0 {
        let before = open_files();
        peers.push(RawPeer::connect(&server.address()).await);
        // Its client is in this process too.
        let settled = || open_files() >= before + 2 || server.closed("file_limit") > 0;
        eventually("it is accepted or refused", settled).await;
    }
    let free = LIMIT as usize - open_files();
    assert!(free >= LIMIT as usize / 4 - 5, "{free} of {LIMIT} files are free");
    let others: Vec<_> =
        (0..free - 10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    server.send("t", "end").await;
    bodies_until_end(sub).await;
    drop((others, peers));
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

async fn leave_nothing_behind() {
    let mut server = Server::start(config()).await;
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
