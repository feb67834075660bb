//! Senders that keep memory for themselves.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// Longest time for anything, until a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_sender_that_stops_within_a_message_for_which_there_is_no_memory_is_closed() {
    let config = InboundConfig {
        kind: InboundKind::Pull,
        bind: vec!["tcp://127.0.0.1:*".parse().unwrap()],
        ipc_mode: None,
        connect: Vec::new(),
        heartbeat: None,
        max_peers: 10,
        max_message: 16 << 20,
        peer_memory: 600 << 10,
        handshake_timeout: PATIENCE,
        in_flight_bytes: 32 << 20,
    };
    let (socket, mut messages) = InboundSocket::start("test", config).await.unwrap();
    let address = socket.endpoints()[0].to_string();
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes.extend_from_slice(b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH");
    let size = 1 << 20;
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    bytes.resize(bytes.len() + size - 1, 0);
    let mut peer = TcpStream::connect(address.trim_start_matches("tcp://")).await.unwrap();
    peer.write_all(&bytes).await.unwrap();
    let _ = timeout(PATIENCE, peer.read_to_end(&mut Vec::new())).await.expect("the end");
    timeout(PATIENCE, socket.shared.hub.none_left()).await.expect("nobody is left");
    assert_eq!(socket.snapshot().closed, [("peer_memory", 1)]);
    assert!(socket.shared.hub.reserves.as_ref().unwrap().is_within_limit());
    assert!(messages.try_recv().is_err());
}
