//! The common parts of the tests: a publisher of numbered messages, libzmq subscribers, and
//! waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zafka_sockets::config::{EndpointConfig, Limits, PubConfig, SlowPeer};
use zafka_sockets::{Chunk, Origin, PubSocket, Publisher};
use zafka_zmtp::frame::{Position, put_header};

/// Longest time for anything, until a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn endpoint(text: &str) -> EndpointConfig {
    text.parse().unwrap()
}

pub fn config() -> PubConfig {
    PubConfig {
        bind: vec![endpoint("tcp://127.0.0.1:*")],
        ipc_mode: None,
        connect: Vec::new(),
        slow_peer: SlowPeer::Block,
        min_peers: 0,
        ring_bytes: 4 * 1024 * 1024,
        peer_timeout: None,
        heartbeat: None,
        limits: Limits::default(),
    }
}

/// A PUB socket and what publishes on it.
pub struct Server {
    pub socket: PubSocket,
    pub publisher: Publisher,
    pub origin: Arc<Origin>,
    pub position: i64,
}

impl Server {
    pub async fn start(config: PubConfig) -> Self {
        let (socket, publisher) = PubSocket::start("test", config).await.unwrap();
        Self { socket, publisher, origin: Origin::new(0), position: 0 }
    }

    pub fn address(&self) -> String {
        self.socket.endpoints()[0].to_string()
    }

    /// Makes a chunk of messages; each is a list of frames.
    pub fn chunk(&mut self, messages: &[Vec<Vec<u8>>]) -> Chunk {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for frames in messages {
            for (index, frame) in frames.iter().enumerate() {
                let last = index + 1 == frames.len();
                put_header(
                    &mut bytes,
                    if last { Position::Last } else { Position::More },
                    frame.len(),
                );
                bytes.extend_from_slice(frame);
            }
            ends.push(bytes.len());
        }
        self.position += messages.len() as i64;
        let same = messages.iter().all(|frames| frames[0] == messages[0][0]);
        Chunk::new(
            bytes,
            ends,
            same,
            messages.len() as u64,
            Arc::clone(&self.origin),
            self.position,
        )
    }

    /// Publishes a chunk of messages once there is room.
    pub async fn publish(&mut self, messages: &[Vec<Vec<u8>>]) {
        let chunk = self.chunk(messages);
        let room = self.publisher.room(chunk.len());
        tokio::time::timeout(PATIENCE, room).await.expect("room in the ring");
        self.publisher.publish(chunk);
    }

    /// Publishes one message of two frames.
    pub async fn send(&mut self, topic: &str, body: &str) {
        self.publish(&[vec![topic.into(), body.into()]]).await;
    }

    pub fn closed(&self, reason: &str) -> u64 {
        let closed = self.socket.snapshot().closed;
        closed.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count)
    }

    pub async fn until_subscribed(&self, peers: usize) {
        eventually("peers subscribe", || self.socket.snapshot().peers_subscribed == peers).await;
    }

    pub async fn until_closed(&self, reason: &str) {
        let what = format!("a connection is closed: {reason}");
        eventually(&what, || self.closed(reason) > 0).await;
    }

    pub async fn until_delivered(&self) {
        eventually("all is delivered", || self.origin.delivered() == self.position).await;
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A libzmq socket that takes all it gets.
pub fn zmq_socket(kind: zmq::SocketType) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvhwm(0).unwrap();
    socket.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
    socket
}

/// A libzmq SUB, connected and subscribed.
pub fn zmq_sub(address: &str, prefixes: &[&str]) -> zmq::Socket {
    let socket = zmq_socket(zmq::SUB);
    for prefix in prefixes {
        socket.set_subscribe(prefix.as_bytes()).unwrap();
    }
    socket.connect(address).unwrap();
    socket
}

/// The bodies of the next messages, up to one that says "end".
pub async fn bodies_until_end(socket: zmq::Socket) -> Vec<String> {
    tokio::task::spawn_blocking(move || {
        let mut bodies = Vec::new();
        loop {
            let frames = socket.recv_multipart(0).expect("a message");
            let body = String::from_utf8(frames[1].clone()).unwrap();
            if body == "end" {
                return bodies;
            }
            bodies.push(body);
        }
    })
    .await
    .unwrap()
}
