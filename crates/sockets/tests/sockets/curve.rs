//! CURVE and a gate: peers that are let in, the messages they are owed, and the end of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use zafka_sockets::config::{EndpointConfig, Mechanism, PubConfig};
use zafka_sockets::gate::{Access, Gate, Presented, Process, TakePlace, Verdict};
use zafka_sockets::{
    Content, Endpoint, InboundConfig, InboundKind, InboundSocket, Origin, PubSocket,
};
use zafka_sockets::{SubEvent, SubSocket};
use zafka_zmtp::curve::{ClientSide, KeyPair, PublicKey, SecretKey, ServerSide};

use crate::raw::{RawPeer, greeting};
use crate::support::{Server, config, endpoint, eventually, zmq_sub};

pub const SERVER: u8 = 1;

fn random(bytes: &mut [u8]) {
    rand::fill(bytes);
}

pub fn keys(number: u8) -> KeyPair {
    KeyPair::new(SecretKey::from_bytes([number; 32]))
}

pub fn server_side(number: u8) -> Mechanism {
    Mechanism::CurveServer(Arc::new(ServerSide { keys: vec![keys(number)], random }))
}

/// An endpoint to connect to, with the client's and the server's key.
pub fn to(address: &Endpoint, client: u8, server: u8) -> EndpointConfig {
    let (keys, server) = (keys(client), keys(server).public());
    let side = ClientSide { keys, server, token: None, random };
    let mechanism = Mechanism::CurveClient(Arc::new(side));
    EndpointConfig { endpoint: address.clone(), mechanism }
}

pub fn bound() -> PubConfig {
    let bind = EndpointConfig { mechanism: server_side(SERVER), ..endpoint("tcp://127.0.0.1:*") };
    PubConfig { bind: vec![bind], ..config() }
}

/// A client that may read what one label says, and write what another says.
#[derive(Debug)]
struct Client {
    name: String,
    reads: &'static str,
    writes: &'static str,
    bounded_as: Option<&'static str>,
    ended: AtomicBool,
}

impl Access for Client {
    fn may_read(&self, label: &str) -> bool {
        label == self.reads
    }

    fn may_write(&self, label: &str) -> bool {
        label == self.writes
    }

    fn may_write_something(&self) -> bool {
        !self.writes.is_empty()
    }

    fn holds(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn subject(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn bounded_as(&self) -> Option<String> {
        self.bounded_as.map(str::to_owned)
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        vec![("X-Zafka-Subject", self.name.clone())]
    }
}

/// Knows some keys, refuses one for ever, and puts off the others.
#[derive(Debug, Default)]
pub struct Known {
    clients: Mutex<BTreeMap<PublicKey, Arc<Client>>>,
    refused: Option<PublicKey>,
    processes: Mutex<Vec<Option<Process>>>,
    /// Peers that were let in.
    let_in: AtomicUsize,
    ends: watch::Sender<u64>,
}

impl Known {
    pub fn with(clients: &[(u8, &'static str, &'static str)]) -> Arc<Self> {
        Self::of_subject(None, clients)
    }

    /// All clients count as this subject.
    pub fn of_subject(
        bounded_as: Option<&'static str>,
        clients: &[(u8, &'static str, &'static str)],
    ) -> Arc<Self> {
        let known = Self { refused: Some(keys(66).public()), ..Self::default() };
        for (number, reads, writes) in clients {
            let (name, ended) = (format!("client {number}"), AtomicBool::new(false));
            let client = Arc::new(Client { name, reads, writes, bounded_as, ended });
            known.clients.lock().insert(keys(*number).public(), client);
        }
        Arc::new(known)
    }

    /// Returns how often a peer was let in.
    pub fn let_in(&self) -> usize {
        self.let_in.load(Ordering::Relaxed)
    }

    /// The number of peers that it has decided about.
    pub fn presented(&self) -> usize {
        self.processes.lock().len()
    }

    fn forget(&self, number: u8) {
        let client = self.clients.lock().remove(&keys(number).public()).unwrap();
        client.ended.store(true, Ordering::Relaxed);
        self.ends.send_modify(|ends| *ends += 1);
    }
}

impl Gate for Known {
    fn admit(&self, presented: &Presented<'_>, take_place: TakePlace<'_>) -> Verdict {
        self.processes.lock().push(presented.process);
        if presented.peer.key.is_some() && presented.peer.key == self.refused {
            return Verdict::Refused("never".to_owned());
        }
        let clients = self.clients.lock();
        match presented.peer.key.and_then(|key| clients.get(&key)) {
            Some(client) if take_place(&**client) => {
                self.let_in.fetch_add(1, Ordering::Relaxed);
                Verdict::Admitted(Arc::clone(client) as Arc<dyn Access>)
            }
            Some(_) => Verdict::NoPlace,
            None => Verdict::Later("unknown".to_owned()),
        }
    }

    fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }
}

pub async fn gated(config: PubConfig, known: &Arc<Known>) -> Server {
    let gate = Arc::clone(known) as Arc<dyn Gate>;
    let started = PubSocket::start_with_gate("test", config, Some(gate)).await;
    let (socket, publisher) = started.unwrap();
    Server { socket, publisher, origin: Origin::new(0), position: 0 }
}

/// The next messages' bodies, up to one that says "end".
async fn bodies(sub: &mut SubSocket) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        match sub.next().await {
            SubEvent::Message(frames) => {
                let body = String::from_utf8(frames[1].to_vec()).unwrap();
                if body == "end" {
                    return bodies;
                }
                bodies.push(body);
            }
            SubEvent::Connected => {}
            SubEvent::Disconnected(reason) => panic!("{reason}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_comes_through_boxes() {
    let mut server = Server::start(bound()).await;
    let address = server.socket.endpoints()[0].clone();
    let mut subs: Vec<_> =
        (2..5).map(|client| SubSocket::new(to(&address, client, SERVER), vec![vec![]])).collect();
    server.until_subscribed(3).await;
    let sizes = [0, 1, 221, 222, 223, 255, 256, 65_000, 66_000, 1 << 20];
    let mut sent = Vec::new();
    for number in 0..500 {
        let size = if number % 100 == 99 { 1 << 20 } else { sizes[number % 9] };
        sent.push(format!("{number} {}", "x".repeat(size)));
    }
    let receiving: Vec<_> =
        subs.drain(..).map(|mut sub| tokio::spawn(async move { bodies(&mut sub).await })).collect();
    for body in &sent {
        server.send("t", body).await;
    }
    server.send("t", "end").await;
    for received in receiving {
        assert!(received.await.unwrap() == sent);
    }
    server.until_delivered().await;
    let snapshot = server.socket.snapshot();
    assert_eq!(snapshot.counters.messages_sent, 3 * 501);
    assert_eq!(snapshot.counters.messages_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_servers_key_there_is_no_connection() {
    let server = Server::start(bound()).await;
    let address = server.socket.endpoints()[0].clone();
    let mut wrong_key = SubSocket::new(to(&address, 2, 9), vec![vec![]]);
    server.until_closed("curve_key").await;
    assert!(matches!(wrong_key.next().await, SubEvent::Disconnected(_)));
    // libzmq sees the mismatch as well, and may be the first to close; this one stays.
    let _libzmq = zmq_sub(&server.address(), &[""]);
    let mut null = RawPeer::connect(&server.address()).await;
    null.send(&greeting(1)).await;
    server.until_closed("mechanism").await;
    assert_eq!(server.socket.snapshot().accepted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_owed_what_they_may_have() {
    let known = Known::with(&[(2, "orders", ""), (3, "payments", ""), (4, "nothing", "")]);
    let mut server = gated(bound(), &known).await;
    let address = server.socket.endpoints()[0].clone();
    let sub = |client| SubSocket::new(to(&address, client, SERVER), vec![vec![]]);
    let [mut orders, mut payments, _nothing] = [2, 3, 4].map(sub);
    server.until_subscribed(3).await;
    let subjects: Vec<_> =
        server.socket.snapshot().peers.into_iter().map(|peer| peer.subject.unwrap()).collect();
    assert_eq!(subjects.len(), 3);
    assert!(subjects.contains(&"client 2".to_owned()), "{subjects:?}");

    let mut publish = async |label: &str, frame: &str, body: &str| {
        let label = server.socket.label(label);
        server.origin = Origin::with(server.position, None, Some(label));
        server.send(frame, body).await;
        server.until_delivered().await;
    };
    // The routing frame is not what decides.
    for body in ["1", "2", "3"] {
        publish("orders", "payments", &format!("order {body}")).await;
        publish("payments", "payments", &format!("payment {body}")).await;
        publish("secret", "orders", "secret").await;
    }
    publish("orders", "x", "end").await;
    publish("payments", "x", "end").await;
    assert_eq!(bodies(&mut orders).await, ["order 1", "order 2", "order 3"]);
    assert_eq!(bodies(&mut payments).await, ["payment 1", "payment 2", "payment 3"]);
    // No peer may have the secret: it counts as a message without a subscriber.
    assert_eq!(server.socket.snapshot().counters.unheard, 3);
    assert_eq!(server.socket.snapshot().counters.messages_sent, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_have_something_does_not_count_for_min_peers() {
    let known = Known::with(&[(2, "orders", ""), (3, "payments", "")]);
    let server = gated(PubConfig { min_peers: 1, ..bound() }, &known).await;
    let address = server.socket.endpoints()[0].clone();
    let orders = server.socket.label("orders");
    let by_frame = server.socket.demand(Some(b"t".to_vec()), Some(&orders));
    let by_any = server.socket.demand(None, Some(&orders));
    let denied = SubSocket::new(to(&address, 3, SERVER), vec![b"t".to_vec()]);
    server.until_subscribed(1).await;
    assert_eq!((by_frame.peers(), by_any.peers()), (0, 0));
    let allowed = SubSocket::new(to(&address, 2, SERVER), vec![b"t".to_vec()]);
    server.until_subscribed(2).await;
    assert_eq!((by_frame.peers(), by_any.peers()), (1, 1));
    let payments = server.socket.label("payments");
    assert_eq!(server.socket.demand(Some(b"t".to_vec()), Some(&payments)).peers(), 1);
    assert_eq!(server.socket.demand(None, Some(&payments)).peers(), 1);
    drop(denied);
    server.until_subscribed(1).await;
    assert_eq!((by_frame.peers(), by_any.peers()), (1, 1));
    drop(allowed);
    server.until_subscribed(0).await;
    assert_eq!((by_frame.peers(), by_any.peers()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_access_ends_is_closed_and_the_others_stay() {
    let known = Known::with(&[(2, "orders", ""), (3, "orders", "")]);
    let server = gated(bound(), &known).await;
    let address = server.socket.endpoints()[0].clone();
    let mut stays = SubSocket::new(to(&address, 2, SERVER), vec![vec![]]);
    let mut goes = SubSocket::new(to(&address, 3, SERVER), vec![vec![]]);
    server.until_subscribed(2).await;
    known.forget(3);
    server.until_closed("access_ended").await;
    server.until_subscribed(1).await;
    assert_eq!(goes.next().await, SubEvent::Connected);
    assert!(matches!(goes.next().await, SubEvent::Disconnected(_)));
    // It is put off when it comes again.
    server.until_closed("put_off").await;
    assert_eq!(server.socket.snapshot().peers_subscribed, 1);
    assert_eq!(stays.next().await, SubEvent::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_peer_is_told() {
    let known = Known::with(&[]);
    let server = gated(bound(), &known).await;
    let address = server.socket.endpoints()[0].clone();
    let mut refused = SubSocket::new(to(&address, 66, SERVER), vec![vec![]]);
    let SubEvent::Disconnected(reason) = refused.next().await else { panic!("it was let in") };
    assert!(reason.contains("\"400\""), "{reason}");
    server.until_closed("refused").await;
    let mut unknown = SubSocket::new(to(&address, 5, SERVER), vec![vec![]]);
    let SubEvent::Disconnected(reason) = unknown.next().await else { panic!("it was let in") };
    assert!(!reason.contains("400"), "{reason}");
    server.until_closed("put_off").await;
    assert_eq!(server.socket.snapshot().accepted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_presented_by_its_owner() {
    let known = Known::with(&[]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pub");
    let bind = vec![endpoint(&format!("ipc://{}", path.display()))];
    let server = gated(PubConfig { bind, ..config() }, &known).await;
    let _sub = SubSocket::new(server.socket.endpoints()[0].clone(), vec![vec![]]);
    server.until_closed("put_off").await;
    let process = known.processes.lock()[0].unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(process.uid, uid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_in_through_boxes_with_what_their_sender_may_write() {
    let known = Known::with(&[(2, "", "edge")]);
    let inbound = InboundConfig {
        kind: InboundKind::Sub(vec![vec![]]),
        bind: Vec::new(),
        ipc_mode: None,
        connect: Vec::new(),
        heartbeat: None,
        max_peers: 10,
        max_message: 1 << 20,
        peer_memory: 1 << 24,
        handshake_timeout: crate::support::PATIENCE,
        in_flight_bytes: 1 << 20,
    };
    // Our SUB is CURVE's client here, and the publisher its server with the key that is known.
    let bind = EndpointConfig { mechanism: server_side(2), ..endpoint("tcp://127.0.0.1:*") };
    let mut publisher = Server::start(PubConfig { bind: vec![bind], ..config() }).await;
    let connect = vec![to(&publisher.socket.endpoints()[0], 7, 2)];
    let gate = Some(Arc::clone(&known) as Arc<dyn Gate>);
    let started = InboundSocket::start_with_gate("in", InboundConfig { connect, ..inbound }, gate);
    let (socket, mut messages) = started.await.unwrap();
    publisher.until_subscribed(1).await;
    publisher.send("t", "hello").await;
    let message = messages.recv().await.unwrap();
    let Content::Messages(messages) = &message.content else { panic!("{message:?}") };
    assert!(messages.frames(0).eq([&b"t"[..], b"hello"]));
    assert!(message.sender.may_write("edge") && !message.sender.may_write("other"));
    assert!(message.sender.may_write_something());
    known.forget(2);
    assert!(!message.sender.may_write("edge"));
    eventually("the connection is closed", || {
        socket.snapshot().closed.iter().any(|(reason, _)| *reason == "access_ended")
    })
    .await;
}
