//! Peers with CURVE that stop reading within large records: all that they make the socket hold is
//! within `peer_memory`, and whoever reads gets everything.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zafka_sockets::config::{EndpointConfig, Limits, Mechanism, PubConfig, SlowPeer};
use zafka_sockets::{SubEvent, SubSocket};
use zafka_zmtp::curve::ClientSide;
use zafka_zmtp::{Config, Connection, Event, Role, SocketType};

use crate::curve::{SERVER, keys, server_side, to};
use crate::support::{PATIENCE, Server, config, endpoint, eventually};

/// Size of a record in bytes, well over what a kernel takes for a peer that does not read.
const RECORD: usize = 1_000_000;
/// Peers that stop. Few: without optimization boxes are most of what this costs.
const STALLED: u8 = 4;

/// A SUB that reads only when it is told to.
struct StalledSub {
    stream: UnixStream,
    connection: Connection,
}

impl StalledSub {
    /// Shakes hands, and subscribes to everything.
    async fn connect(path: &Path, key: u8) -> Self {
        let (keys, server) = (keys(key), keys(SERVER).public());
        let side = ClientSide { keys, server, token: None, random: |bytes| rand::fill(bytes) };
        let config = Config {
            socket_type: SocketType::Sub,
            role: Role::Client,
            mechanism: Mechanism::CurveClient(Arc::new(side)),
            identity: Bytes::new(),
            max_frame: 1 << 21,
            max_message: 1 << 21,
            heartbeat: None,
        };
        let stream = UnixStream::connect(path).await.unwrap();
        let mut sub = Self { stream, connection: Connection::new(config, Instant::now()) };
        sub.connection.subscribe(b"");
        while !sub.write_output().await {
            sub.read().await;
        }
        sub
    }

    /// Returns true once the handshake is done and the subscription is sent, in its box.
    async fn write_output(&mut self) -> bool {
        while let Some(output) = self.connection.poll_output() {
            self.stream.write_all(&output).await.unwrap();
        }
        let Some(mut sealer) = self.connection.take_sealer() else { return false };
        let mut boxed = Vec::new();
        while let Some(output) = self.connection.poll_output() {
            sealer.seal(&output, &mut boxed).unwrap();
        }
        self.stream.write_all(&boxed).await.unwrap();
        true
    }

    async fn read(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("more").unwrap();
        assert!(read > 0, "the socket closed the connection");
        self.connection.handle_input(&buffer[..read], Instant::now()).unwrap();
    }

    /// Reads on: the next message.
    async fn message(&mut self) -> Vec<Bytes> {
        loop {
            match self.connection.poll_event() {
                Some(Event::Message(frames)) => return frames,
                Some(_) => {}
                None => self.read().await,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stop_within_large_records_take_no_memory_from_who_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pub");
    let ipc = endpoint(&format!("ipc://{}", path.display()));
    let bind = EndpointConfig { mechanism: server_side(SERVER), ..ipc };
    // A record is there once for all peers that stopped within it; there is no room for a part of
    // it for each.
    let limits = Limits { peer_memory: 2 * RECORD, ..Limits::default() };
    let (slow_peer, ring_bytes) = (SlowPeer::Drop, 1 << 16);
    let config = PubConfig { bind: vec![bind], slow_peer, ring_bytes, limits, ..config() };
    let mut server = Server::start(config).await;
    let mut stalled = Vec::new();
    for peer in 0..STALLED {
        stalled.push(StalledSub::connect(&path, 10 + peer).await);
    }
    server.until_subscribed(STALLED.into()).await;
    let record = |number: u8| String::from(char::from(b'a' + number)).repeat(RECORD);
    server.send("t", &record(0)).await;
    let views = |server: &Server| server.socket.snapshot().peers;
    eventually("each stops within the first record", || {
        let within = |bytes| (1..RECORD as u64).contains(&bytes);
        views(&server).iter().filter(|peer| within(peer.bytes_queued)).count() == STALLED.into()
    })
    .await;
    let mut healthy =
        SubSocket::new(to(&server.socket.endpoints()[0], 2, SERVER), vec![b"t".to_vec()]);
    server.until_subscribed(usize::from(STALLED) + 1).await;
    for number in 1..4 {
        server.send("t", &record(number)).await;
        let frames = loop {
            match timeout(PATIENCE, healthy.next()).await.expect("a record") {
                SubEvent::Message(frames) => break frames,
                SubEvent::Connected => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(frames[1] == record(number), "record {number}");
        let held = server.socket.counts().peer_bytes;
        assert!(held <= 2 * RECORD, "{held} bytes are held for peers");
    }
    assert!(server.socket.counts().peer_bytes > RECORD, "what they stopped within is kept");
    assert!(server.socket.counts().closed.is_empty(), "{:?}", server.socket.counts().closed);
    let dropped = |server: &Server| views(server).iter().filter(|p| p.messages_dropped > 0).count();
    assert_eq!(dropped(&server), STALLED.into());
    // One of them reads again: the record that it stopped within comes whole.
    let frames = stalled[0].message().await;
    assert!(frames[0] == "t" && frames[1] == record(0));
    drop(stalled);
    server.until_subscribed(1).await;
    let one = server.socket.counts().peer_bytes;
    assert!(one < 10_000, "{one} bytes are held for one subscription");
}
