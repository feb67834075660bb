//! Strangers in numbers: those who are let in are served meanwhile, and what the strangers hold is
//! bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use zafka_sockets::config::{EndpointConfig, Limits, Mechanism, PubConfig};
use zafka_sockets::gate::Gate;
use zafka_sockets::{InboundConfig, InboundKind, InboundSocket, Origin, SubEvent, SubSocket};
use zafka_zmtp::curve::ClientSide;
use zafka_zmtp::{Config, Connection, Role, SocketType};

use crate::curve::{Known, SERVER, bound, gated, keys, to};
use crate::raw::{RawPeer, command, greeting, ready, subscription};
use crate::support::{PATIENCE, Server, config, endpoint, eventually};

/// Another address of this machine, where the floods come from.
const FLOOD: [u8; 4] = [127, 0, 0, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_before_the_end_of_their_handshake_are_no_peers() {
    let limits = Limits { max_peers: 2, ..Limits::default() };
    let mut server = Server::start(PubConfig { limits, ..config() }).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(RawPeer::connect(&server.address()).await);
    }
    let mut peers = Vec::new();
    for _ in 0..2 {
        let mut peer = RawPeer::connect(&server.address()).await;
        peer.shake_hands(1).await;
        peer.subscribe("t").await;
        peers.push(peer);
    }
    server.until_subscribed(2).await;
    // One that began before, and one that begins now.
    let mut late = silent.pop().unwrap();
    assert!(late.try_to_shake_hands_as("SUB", 1).await.is_err() || late.rest().await.is_empty());
    assert!(RawPeer::connect(&server.address()).await.rest().await.is_empty());
    assert_eq!(server.closed("peer_limit"), 2);
    server.send("t", "x").await;
    for peer in &mut peers {
        assert_eq!(peer.frame().await, (1, b"t".to_vec()));
    }
    assert_eq!(server.socket.snapshot().peers_connected, 2);
    // A place that becomes free is free.
    drop(peers);
    server.until_subscribed(0).await;
    silent.pop().unwrap().shake_hands(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_does_not_take_the_places_of_all_peers() {
    let known = Known::with(&[(2, "orders", ""), (3, "orders", "")]);
    let limits = Limits { max_peers: 18, ..Limits::default() };
    let server = gated(PubConfig { limits, ..bound() }, &known).await;
    let address = server.socket.endpoints()[0].clone();
    let sub = |key| SubSocket::new(to(&address, key, SERVER), vec![vec![]]);
    // One more than a key may have: it is put off and tries again, and nobody else is.
    let mut greedy: Vec<_> = (0..17).map(|_| sub(2)).collect();
    server.until_closed("key_limit").await;
    let mut other = sub(3);
    let connected = async { while other.next().await != SubEvent::Connected {} };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
    eventually("all are there", || server.socket.snapshot().peers_connected == 17).await;
    assert_eq!(server.closed("peer_limit"), 0);
    // For the gate's log and counts, too.
    eventually("nobody else was let in", || known.let_in() == 17).await;
    // A place that one of that key gives up is for the one that is put off.
    greedy.truncate(15);
    greedy.push(sub(2));
    eventually("it is full again", || server.socket.snapshot().peers_connected == 17).await;
    drop(greedy);
    eventually("the other one stays", || server.socket.snapshot().peers_connected == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_subject_does_not_take_the_places_of_all_peers() {
    let clients: Vec<_> = (2..20).map(|key| (key, "orders", "")).collect();
    let known = Known::of_subject(Some("alice"), &clients);
    let limits = Limits { max_peers: 18, ..Limits::default() };
    let server = gated(PubConfig { limits, ..bound() }, &known).await;
    let address = server.socket.endpoints()[0].clone();
    // Each with a key of its own, and two more than a subject may have.
    let greedy: Vec<_> = clients.iter().map(|(key, ..)| to(&address, *key, SERVER)).collect();
    let mut greedy: Vec<_> =
        greedy.into_iter().map(|to| SubSocket::new(to, vec![vec![]])).collect();
    server.until_closed("subject_limit").await;
    eventually("its part is taken", || server.socket.snapshot().peers_connected == 16).await;
    eventually("nobody else was let in", || known.let_in() == 16).await;
    assert_eq!((server.closed("peer_limit"), server.closed("key_limit")), (0, 0));
    // Places that it gives up are for those that are put off.
    greedy.truncate(15);
    let gone = || server.socket.snapshot().peers_connected <= 15;
    eventually("there are places", gone).await;
    greedy.extend((17..20).map(|key| SubSocket::new(to(&address, key, SERVER), vec![vec![]])));
    eventually("it is full again", || server.socket.snapshot().peers_connected == 16).await;
    drop(greedy);
    eventually("all are gone", || server.socket.snapshot().peers_connected == 0).await;
}

/// The way of a flood: what one of its connections does.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// Nothing.
    Silent,
    /// Byte after byte of a greeting.
    Slow,
    /// It sends no ZMTP.
    Garbage,
    /// A HELLO that nobody made for this server.
    Forged,
    /// A HELLO that is right, and nothing more.
    Halfway,
    /// All of the handshake, with a key that is not known.
    Unknown,
    /// The same, with a key that is refused for good.
    Refused,
    /// The same, with a key that may have nothing.
    Powerless,
}

/// A HELLO for this server, once it has greeted.
async fn hello(peer: &mut RawPeer) -> std::io::Result<Connection> {
    let side = ClientSide {
        keys: keys(5),
        server: keys(SERVER).public(),
        token: None,
        random: |bytes| rand::fill(bytes),
    };
    let config = Config {
        socket_type: SocketType::Sub,
        role: Role::Client,
        mechanism: Mechanism::CurveClient(Arc::new(side)),
        identity: Bytes::new(),
        max_frame: 1000,
        max_message: 1000,
        heartbeat: None,
    };
    let mut connection = Connection::new(config, Instant::now());
    peer.0.write_all(&connection.poll_output().unwrap()).await?;
    let mut theirs = [0; 64];
    peer.0.read_exact(&mut theirs).await?;
    connection.handle_input(&theirs, Instant::now()).unwrap();
    peer.0.write_all(&connection.poll_output().unwrap()).await?;
    Ok(connection)
}

impl Stranger {
    /// One connection, until the server ends it.
    async fn try_once(self, address: &str) -> std::io::Result<()> {
        let key = match self {
            Self::Unknown => Some(7),
            Self::Refused => Some(66),
            Self::Powerless => Some(4),
            _ => None,
        };
        if let Some(key) = key {
            let endpoint = endpoint(address).endpoint;
            let mut sub = SubSocket::new(to(&endpoint, key, SERVER), vec![vec![]]);
            while !matches!(sub.next().await, SubEvent::Disconnected(_)) {}
            return Ok(());
        }
        let mut peer = RawPeer::connect_from(FLOOD, address).await?;
        let mut curve = greeting(1);
        curve[12..17].copy_from_slice(b"CURVE");
        match self {
            Self::Slow => {
                for byte in curve {
                    peer.0.write_all(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
            }
            Self::Garbage => peer.0.write_all(&[7; 300]).await?,
            Self::Forged => {
                let body = [&b"\x05HELLO\x01\0"[..], &[9; 192]].concat();
                peer.0.write_all(&[curve, command(&body)].concat()).await?;
            }
            Self::Halfway => drop(hello(&mut peer).await?),
            _ => {}
        }
        peer.0.read_to_end(&mut Vec::new()).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_let_in_is_served_during_each_flood() {
    use Stranger::*;
    // Few of those that make us calculate: without optimization that is most of what these tests
    // do.
    for (stranger, count, reason) in [
        (Silent, 300, "handshake_timeout"),
        (Slow, 300, "handshake_timeout"),
        (Garbage, 100, "version"),
        (Forged, 30, "curve_key"),
        (Halfway, 30, "handshake_timeout"),
        (Unknown, 30, "put_off"),
        (Refused, 30, "refused"),
        (Powerless, 30, ""),
    ] {
        let known = Known::with(&[(2, "orders", ""), (4, "nothing", "")]);
        let limits = Limits { peer_memory: 1 << 20, ..Limits::default() };
        let mut server = gated(PubConfig { limits, ..bound() }, &known).await;
        let (address, orders) =
            (server.socket.endpoints()[0].clone(), server.socket.label("orders"));
        let (is_over, text) = (Arc::new(AtomicBool::new(false)), server.address());
        let mut flood = JoinSet::new();
        for _ in 0..count {
            let (is_over, text) = (Arc::clone(&is_over), text.clone());
            flood.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    // It is refused, or there are no files or ports left.
                    let _ = stranger.try_once(&text).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        for round in 0..2 {
            // Newcomers all of them: there is a place for their handshakes.
            let mut sub = SubSocket::new(to(&address, 2, SERVER), vec![b"t".to_vec()]);
            let connected = tokio::time::timeout(PATIENCE, async {
                while sub.next().await != SubEvent::Connected {}
            });
            connected.await.unwrap_or_else(|_| panic!("{stranger:?}, round {round}"));
            let what = format!("{stranger:?}, round {round}: it is subscribed");
            let demand = server.socket.demand(None, Some(&orders));
            eventually(&what, || demand.peers() == 1).await;
            server.origin = Origin::with(server.position, None, Some(orders.clone()));
            server.send("t", "x").await;
            let got = tokio::time::timeout(PATIENCE, sub.next()).await.expect(&what);
            assert!(matches!(&got, SubEvent::Message(frames) if *frames[1] == *b"x"), "{got:?}");
            drop(sub);
            eventually("it is gone", || demand.peers() == 0).await;
        }
        if !reason.is_empty() {
            server.until_closed(reason).await;
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(server.closed("peer_memory"), 0, "{stranger:?}: strangers took peers' memory");
        assert_eq!(server.closed("peer_limit"), 0, "{stranger:?}: strangers took peers' places");
        flood.shutdown().await;
        eventually("all strangers are gone", || server.socket.snapshot().peers_connected == 0)
            .await;
    }
}

/// READY of a PUSH with a token.
fn ready_with_token() -> Vec<u8> {
    let mut body = ready("PUSH")[2..].to_vec();
    body.extend_from_slice(b"\x07X-Token\0\0\0\x03abc");
    command(&body)
}

fn inbound(bind: EndpointConfig) -> InboundConfig {
    InboundConfig {
        kind: InboundKind::Pull,
        bind: vec![bind],
        ipc_mode: None,
        connect: Vec::new(),
        heartbeat: None,
        max_peers: 10,
        max_message: 1 << 20,
        peer_memory: 1 << 20,
        handshake_timeout: PATIENCE,
        in_flight_bytes: 1 << 20,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_clear_is_refused_and_what_comes_with_it_is_not_taken() {
    let started = InboundSocket::start("in", inbound(endpoint("tcp://127.0.0.1:*"))).await;
    let (socket, mut messages) = started.unwrap();
    let address = socket.endpoints()[0].to_string();
    let mut peer = RawPeer::connect(&address).await;
    let message = b"\x00\x05hello";
    peer.send(&[greeting(1), ready_with_token(), message.to_vec()].concat()).await;
    let mut theirs = [0; 64];
    peer.0.read_exact(&mut theirs).await.unwrap();
    assert!(peer.frame().await.1.starts_with(b"\x05READY"));
    assert_eq!(peer.frame().await, (4, b"\x05ERROR\x03400".to_vec()));
    assert!(peer.rest().await.is_empty(), "then our direction ends");
    // Until it ends its own, or a second is over: so that it hears of it.
    drop(peer);
    eventually("it is counted", || socket.snapshot().closed.contains(&("token_in_clear", 1))).await;
    // The same without a token is taken.
    let mut peer = RawPeer::connect(&address).await;
    peer.send(&[greeting(1), ready("PUSH"), message.to_vec()].concat()).await;
    let taken = messages.recv().await.unwrap();
    assert!(taken.sender.may_write("anything"), "nobody decides about it");
    assert!(messages.try_recv().is_err(), "one message, not two");
    assert_eq!(socket.snapshot().accepted, 1);

    // Somebody who decides is not even asked.
    let known = Known::with(&[]);
    let bind = inbound(endpoint("tcp://127.0.0.1:*"));
    let gate = Some(Arc::clone(&known) as Arc<dyn Gate>);
    let (socket, _messages) = InboundSocket::start_with_gate("in", bind, gate).await.unwrap();
    let mut peer = RawPeer::connect(&socket.endpoints()[0].to_string()).await;
    peer.send(&[greeting(1), ready_with_token()].concat()).await;
    peer.0.read_exact(&mut theirs).await.unwrap();
    assert!(peer.frame().await.1.starts_with(b"\x05READY"));
    assert_eq!(peer.frame().await, (4, b"\x05ERROR\x03400".to_vec()));
    assert_eq!(known.presented(), 0);

    // On a path of this machine nobody listens: there it is not looked at.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in");
    let bind = inbound(endpoint(&format!("ipc://{}", path.display())));
    let (_socket, mut messages) = InboundSocket::start("in", bind).await.unwrap();
    let mut peer = UnixStream::connect(&path).await.unwrap();
    peer.write_all(&[greeting(1), ready_with_token(), message.to_vec()].concat()).await.unwrap();
    messages.recv().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_let_in_has_said_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("in");
    let bind = endpoint(&format!("ipc://{}", path.display()));
    let known = Known::with(&[]);
    let gate = Some(Arc::clone(&known) as Arc<dyn Gate>);
    let started = InboundSocket::start_with_gate("in", inbound(bind), gate).await;
    let (socket, mut messages) = started.unwrap();
    let mut peer = UnixStream::connect(&path).await.unwrap();
    peer.write_all(&[greeting(1), ready("PUSH"), b"\x00\x05hello".to_vec()].concat())
        .await
        .unwrap();
    eventually("it is put off", || socket.snapshot().closed.contains(&("put_off", 1))).await;
    assert!(messages.try_recv().is_err());

    // Neither does its subscription count.
    let path = directory.path().join("out");
    let bind = endpoint(&format!("ipc://{}", path.display()));
    let config = PubConfig { bind: vec![bind], min_peers: 1, ..config() };
    let server = gated(config, &known).await;
    let demand = server.socket.demand(None, Some(&server.socket.label("orders")));
    let mut peer = UnixStream::connect(&path).await.unwrap();
    peer.write_all(&[greeting(1), ready("SUB"), subscription(b"")].concat()).await.unwrap();
    server.until_closed("put_off").await;
    assert_eq!((demand.peers(), server.socket.snapshot().peers_connected), (0, 0));
}
