//! A thousand connections leave nothing behind. A binary of its own: it counts the process's file descriptors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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
async fn a_thousand_connections_leave_nothing_behind() {
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
    assert_eq!((snapshot.peers.len(), snapshot.peers_subscribed, snapshot.ring_bytes), (0, 0, 0));
    assert_eq!(snapshot.closed.iter().map(|(_, count)| count).sum::<u64>(), 1000, "{:?}", snapshot.closed);
    let sub = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    server.send("t", "end").await;
    bodies_until_end(sub).await;
}
