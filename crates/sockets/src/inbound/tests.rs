//! Senders that keep memory for themselves.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// Longest time for anything, until a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn config() -> InboundConfig {
    InboundConfig {
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
    }
}

/// The bytes of a PUSH up to its first message.
fn greeting() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes.extend_from_slice(b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH");
    bytes
}

async fn connect(socket: &InboundSocket) -> TcpStream {
    let address = socket.endpoints()[0].to_string();
    TcpStream::connect(address.trim_start_matches("tcp://")).await.unwrap()
}

#[tokio::test]
async fn a_sender_that_stops_within_a_message_for_which_there_is_no_memory_is_closed() {
    let (socket, mut messages) = InboundSocket::start("test", config()).await.unwrap();
    let mut bytes = greeting();
    let size = 1 << 20;
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    bytes.resize(bytes.len() + size - 1, 0);
    let mut peer = connect(&socket).await;
    peer.write_all(&bytes).await.unwrap();
    let _ = timeout(PATIENCE, peer.read_to_end(&mut Vec::new())).await.expect("the end");
    timeout(PATIENCE, socket.shared.hub.none_left()).await.expect("nobody is left");
    assert_eq!(socket.snapshot().closed, [("peer_memory", 1)]);
    assert!(socket.shared.hub.reserves.as_ref().unwrap().is_within_limit());
    assert!(messages.try_recv().is_err());
}

#[tokio::test]
async fn messages_keep_their_share_if_too_much_is_set_aside() {
    let (socket, mut messages) = InboundSocket::start("test", config()).await.unwrap();
    let mut peer = connect(&socket).await;
    let bytes = [greeting(), b"\x00\x04some".to_vec()].concat();
    peer.write_all(&bytes).await.unwrap();
    let received = timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
    let (content, mut permit) = (received.content, received.permit);
    let share = socket.snapshot().bytes_in_flight;
    assert!(share > 0);
    let others = socket.shared.hub.reserves.as_ref().unwrap().charge(301 << 10);
    socket.set_aside(&content, &mut permit);
    permit.take_in(socket.room(0).await);
    assert_eq!((permit.set_aside(), socket.snapshot().bytes_in_flight), (None, share));
    drop(others);
    socket.set_aside(&content, &mut permit);
    assert_eq!((permit.set_aside(), socket.snapshot().bytes_in_flight), (Some(share), 0));
    // Without room it stays so, also what is left of it.
    permit.take_in(socket.room(0).await);
    let mut rest = permit.split(1, 4, share);
    assert_eq!((permit.set_aside(), rest.set_aside()), (None, Some(share)));
    rest.take_in(socket.room(share).await);
    assert_eq!((rest.set_aside(), socket.snapshot().bytes_in_flight), (None, share));
    drop((permit, rest));
    assert_eq!(socket.snapshot().bytes_in_flight, 0);
}
