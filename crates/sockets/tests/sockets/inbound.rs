//! Senders that do not fit, are many, slow or greedy: what bounds them is what bounds subscribers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use zafka_sockets::{
    Content, Inbound, InboundConfig, InboundKind, InboundSocket, Permit, Sender, message_weight,
};
use zafka_zmtp::Messages;

use crate::raw::{RawPeer, command, greeting, ready};
use crate::support::{PATIENCE, endpoint, eventually, zmq_socket};

fn config(kind: InboundKind) -> InboundConfig {
    InboundConfig {
        kind,
        bind: vec![endpoint("tcp://127.0.0.1:*")],
        ipc_mode: None,
        connect: Vec::new(),
        heartbeat: None,
        max_peers: 16_384,
        max_message: 16 << 20,
        peer_memory: 256 << 20,
        handshake_timeout: Duration::from_secs(5),
        in_flight_bytes: 32 << 20,
    }
}

/// The kinds of sockets, each with the type of a peer that fits.
fn kinds() -> [(InboundKind, &'static str); 3] {
    let everything = InboundKind::Sub(vec![Vec::new()]);
    [(InboundKind::Pull, "PUSH"), (everything, "PUB"), (InboundKind::Router, "DEALER")]
}

/// A socket and what it hands over.
struct Sink {
    socket: InboundSocket,
    messages: UnboundedReceiver<Inbound>,
    /// Messages that came together with the last one.
    more: VecDeque<Taken>,
}

/// A message that was taken. Dropped, it is settled.
struct Taken {
    sender: Arc<Sender>,
    content: Content,
    size: usize,
    weight: usize,
    permit: Arc<Mutex<Permit>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.permit.lock().unwrap().release(1, self.size, self.weight);
    }
}

/// Messages that came together, one by one.
fn one_by_one(Inbound { sender, content, permit }: Inbound) -> VecDeque<Taken> {
    let permit = Arc::new(Mutex::new(permit));
    let taken = |content, size, frames| Taken {
        sender: Arc::clone(&sender),
        content,
        size,
        weight: message_weight(size, frames),
        permit: Arc::clone(&permit),
    };
    let (mut messages, make): (_, fn(Messages) -> Content) = match content {
        Content::Messages(messages) => (messages, Content::Messages),
        Content::Late(messages) => (messages, Content::Late),
        Content::TooLarge(discarded) => {
            let size = discarded.head.iter().map(bytes::Bytes::len).sum();
            let frames = discarded.head.len();
            return [taken(Content::TooLarge(discarded), size, frames)].into();
        }
    };
    let mut all = VecDeque::new();
    while !messages.is_empty() {
        let rest = messages.split_off(1);
        let one = std::mem::replace(&mut messages, rest);
        let (size, frames) = (one.bytes(), one.frames(0).count());
        all.push_back(taken(make(one), size, frames));
    }
    all
}

impl Sink {
    async fn start(config: InboundConfig) -> Self {
        let (socket, messages) = InboundSocket::start("test", config).await.unwrap();
        Self { socket, messages, more: VecDeque::new() }
    }

    fn address(&self) -> String {
        self.socket.endpoints()[0].to_string()
    }

    fn closed(&self, reason: &str) -> u64 {
        let closed = self.socket.snapshot().closed;
        closed.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count)
    }

    async fn until_closed(&self, reason: &str, count: u64) {
        let what = format!("{count} connections are closed: {reason}");
        eventually(&what, || self.closed(reason) == count).await;
    }

    async fn next(&mut self) -> Taken {
        if self.more.is_empty() {
            let inbound = timeout(PATIENCE, self.messages.recv()).await.expect("a message");
            self.more = one_by_one(inbound.unwrap());
        }
        self.more.pop_front().unwrap()
    }

    /// A peer that has shaken hands.
    async fn peer(&self, socket_type: &str) -> RawPeer {
        let mut peer = RawPeer::connect(&self.address()).await;
        peer.shake_hands_as(socket_type, 1).await;
        peer
    }
}

/// The frames of a message that was taken.
fn frames(taken: &Taken) -> Vec<&[u8]> {
    match &taken.content {
        Content::Messages(messages) => messages.frames(0).collect(),
        other => panic!("{other:?}"),
    }
}

/// A message of one short frame.
fn message(body: &[u8]) -> Vec<u8> {
    [&[0, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A message of one long frame of zeros.
fn long_message(size: usize) -> Vec<u8> {
    let mut frame = vec![2];
    frame.extend_from_slice(&(size as u64).to_be_bytes());
    frame.resize(frame.len() + size, 0);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_that_do_not_fit_are_closed_with_a_reason() {
    for (kind, fits) in kinds() {
        let mut sink = Sink::start(InboundConfig { max_message: 100, ..config(kind) }).await;
        let unfit = [greeting(1), ready("REP")].concat();
        let far_too_large = b"\x02\0\0\0\0\x40\0\0\x01".to_vec();
        let far_too_large = [greeting(1), ready(fits), far_too_large].concat();
        for (bytes, reason) in [(unfit, "socket_type"), (far_too_large, "frame_limit")] {
            let mut peer = RawPeer::connect(&sink.address()).await;
            peer.send(&bytes).await;
            sink.until_closed(reason, 1).await;
            peer.rest().await;
        }
        let mut peer = sink.peer(fits).await;
        peer.send(&[long_message(101), message(b"x")].concat()).await;
        let too_large = sink.next().await;
        let too_large = &too_large.content;
        assert!(matches!(too_large, Content::TooLarge(told) if told.size == 101), "{too_large:?}");
        assert_eq!(frames(&sink.next().await), [b"x"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_has_a_deadline() {
    for (kind, _) in kinds() {
        let handshake_timeout = Duration::from_millis(200);
        let sink = Sink::start(InboundConfig { handshake_timeout, ..config(kind) }).await;
        for (index, begun) in [0, 5, 64].into_iter().enumerate() {
            let mut peer = RawPeer::connect(&sink.address()).await;
            peer.send(&greeting(1)[..begun]).await;
            sink.until_closed("handshake_timeout", index as u64 + 1).await;
            peer.rest().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_keep_a_sender_out() {
    let mut sink = Sink::start(config(InboundKind::Pull)).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(RawPeer::connect(&sink.address()).await);
    }
    let push = zmq_socket(zmq::PUSH);
    push.connect(&sink.address()).unwrap();
    push.send("x", 0).unwrap();
    assert_eq!(frames(&sink.next().await), [b"x"]);
    // Before it was accepted, places had to become free.
    assert!(sink.closed("handshake_timeout") >= 300, "{}", sink.closed("handshake_timeout"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_short_lived_senders_are_all_heard_and_leave_nothing() {
    const SENDERS: usize = 10_000;
    const AT_A_TIME: usize = 50;
    let mut sink = Sink::start(config(InboundKind::Pull)).await;
    let address = sink.address();
    let send = tokio::spawn(async move {
        for _ in 0..SENDERS / AT_A_TIME {
            let mut peers = Vec::new();
            for _ in 0..AT_A_TIME {
                let mut peer = RawPeer::connect(&address).await;
                let all = [greeting(1), ready("PUSH"), message(b"x")].concat();
                peer.send(&all).await;
                tokio::io::AsyncWriteExt::shutdown(&mut peer.0).await.unwrap();
                peers.push(peer);
            }
            for mut peer in peers {
                peer.rest().await;
            }
        }
    });
    for _ in 0..SENDERS {
        assert_eq!(frames(&sink.next().await), [b"x"]);
    }
    send.await.unwrap();
    sink.until_closed("peer", SENDERS as u64).await;
    let snapshot = sink.socket.snapshot();
    assert_eq!((snapshot.accepted, snapshot.senders.len()), (SENDERS as u64, 0));
    assert_eq!(snapshot.bytes_in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited() {
    let config = InboundConfig { max_peers: 1, ..config(InboundKind::Pull) };
    let mut sink = Sink::start(config).await;
    let first = sink.peer("PUSH").await;
    let mut second = RawPeer::connect(&sink.address()).await;
    assert_eq!(second.rest().await, b"");
    assert_eq!(sink.closed("peer_limit"), 1);
    drop(first);
    sink.until_closed("peer", 1).await;
    let mut third = sink.peer("PUSH").await;
    third.send(&message(b"x")).await;
    assert_eq!(frames(&sink.next().await), [b"x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_limited_over_all_senders_and_nothing_they_send_is_lost() {
    const SENDERS: usize = 20;
    const SIZE: usize = 1 << 20;
    // Half of it is for input: what is read at a time of three messages.
    let limit = 2 * (3 * SIZE + (512 << 10));
    for (kind, fits) in kinds() {
        let config = InboundConfig { peer_memory: limit, ..config(kind) };
        let mut sink = Sink::start(config).await;
        let mut sending = tokio::task::JoinSet::new();
        for _ in 0..SENDERS {
            let mut peer = sink.peer(fits).await;
            sending.spawn(async move {
                peer.send(&long_message(SIZE)).await;
                peer
            });
        }
        // Messages in flight are counted apart.
        let mut in_flight = Vec::new();
        while in_flight.len() < SENDERS {
            let inbound = sink.next().await;
            assert_eq!(frames(&inbound)[0].len(), SIZE);
            in_flight.push(inbound);
        }
        let _peers = sending.join_all().await;
        let snapshot = sink.socket.snapshot();
        assert_eq!((snapshot.closed, snapshot.senders.len()), (Vec::new(), SENDERS));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_that_stop_within_messages_do_not_keep_the_others_out() {
    const FRAME: usize = 60_000;
    let config = InboundConfig { peer_memory: 2 << 20, ..config(InboundKind::Router) };
    let mut sink = Sink::start(config).await;
    // Together so much that what a read may need is more than what is left.
    let mut frame = long_message(FRAME);
    frame[0] = 3;
    let mut stopped = Vec::new();
    for _ in 0..5 {
        let mut peer = sink.peer("DEALER").await;
        peer.send(&[frame.repeat(3), command(b"\x04PING\0\0")].concat()).await;
        assert_eq!(peer.frame().await, (4, b"\x04PONG".to_vec()));
        stopped.push(peer);
    }
    let mut dealer = sink.peer("DEALER").await;
    for number in 0..100_u8 {
        dealer.send(&message(&[number])).await;
        let inbound = sink.next().await;
        assert_eq!(frames(&inbound), [vec![number]]);
        inbound.sender.answer([&[number][..]].into_iter());
        assert_eq!(dealer.frame().await, (0, vec![number]));
    }
    for peer in &mut stopped {
        peer.send(&message(b"end")).await;
        let inbound = sink.next().await;
        let sizes: Vec<_> = frames(&inbound).iter().map(|frame| frame.len()).collect();
        assert_eq!(sizes, [FRAME, FRAME, FRAME, 3]);
    }
    assert_eq!(sink.socket.snapshot().closed, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_a_byte_take_memory_too() {
    const FRAMES: usize = 4_096;
    let config = InboundConfig { in_flight_bytes: 1 << 20, ..config(InboundKind::Pull) };
    let mut sink = Sink::start(config).await;
    let mut peer = sink.peer("PUSH").await;
    let many = [[1, 0].repeat(FRAMES - 1), vec![0, 0]].concat();
    peer.send(&many.repeat(20)).await;
    let fit = (1 << 20) / message_weight(0, FRAMES);
    let under_way = |sink: &Sink| sink.socket.snapshot().senders[0].under_way;
    eventually("the sender is held", || {
        sink.socket.snapshot().senders[0].held_since.is_some() && under_way(&sink) == fit
    })
    .await;
    for _ in 0..20 {
        assert_eq!(frames(&sink.next().await).len(), FRAMES);
    }
    eventually("nothing is under way", || under_way(&sink) == 0).await;
    assert_eq!(sink.socket.snapshot().bytes_in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_came_together_are_parted_if_there_is_little_memory() {
    let config = InboundConfig { in_flight_bytes: 8_192, ..config(InboundKind::Pull) };
    let mut sink = Sink::start(config).await;
    let mut peer = sink.peer("PUSH").await;
    let all: Vec<u8> = (0..5_000_u16).flat_map(|number| message(&number.to_be_bytes())).collect();
    peer.send(&all).await;
    for number in 0..5_000_u16 {
        assert_eq!(frames(&sink.next().await), [number.to_be_bytes()]);
        assert!(sink.more.len() < 8_192 / message_weight(2, 1));
    }
}

/// A ROUTER, and a DEALER with small buffers whose first message was taken.
async fn dealer_with_a_message() -> (Sink, RawPeer, Taken) {
    let mut sink = Sink::start(config(InboundKind::Router)).await;
    let mut peer = RawPeer::connect_small(&sink.address()).await;
    peer.shake_hands_as("DEALER", 1).await;
    peer.send(&message(b"x")).await;
    let taken = sink.next().await;
    (sink, peer, taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_reads_its_last_answers_late_is_let_go() {
    let (sink, mut peer, taken) = dealer_with_a_message().await;
    // Some more than the kernels hold, and less than a queue may.
    let answer = vec![7; 100 << 10];
    let waits = |sink: &Sink| sink.socket.snapshot().senders[0].answer_bytes > 0;
    let mut answers = 0;
    while !waits(&sink) || answers % 8 != 0 {
        taken.sender.answer([&answer[..]].into_iter());
        answers += 1;
        tokio::task::yield_now().await;
    }
    drop(taken);
    // It has all the time it wants: only what it reads lets it go.
    let close = sink.socket.close(10 * PATIENCE);
    let (rest, ()) = tokio::join!(peer.rest(), close);
    assert_eq!(rest.len(), answers * (9 + answer.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_not_read_while_it_does_not_read() {
    let (mut sink, mut peer, taken) = dealer_with_a_message().await;
    let answer = vec![7; 100 << 10];
    let snapshot = |sink: &Sink| sink.socket.snapshot().senders.remove(0);
    let mut answers = 0;
    // The kernels take the first ones.
    eventually("it is not read", || {
        while snapshot(&sink).answer_bytes <= 1 << 20 {
            taken.sender.answer([&answer[..]].into_iter());
            answers += 1;
        }
        snapshot(&sink).held_since.is_some()
    })
    .await;
    assert_eq!(sink.socket.held(), None, "it does not wait for memory");
    peer.send(&message(b"later")).await;
    // It goes on as soon as it reads.
    let mut rest = vec![0; answers * (9 + answer.len())];
    timeout(PATIENCE, peer.0.read_exact(&mut rest)).await.unwrap().unwrap();
    assert_eq!(frames(&sink.next().await), [b"later"]);
    assert_eq!(snapshot(&sink).held_since, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read_are_limited() {
    let (sink, mut peer, inbound) = dealer_with_a_message().await;
    let answer = vec![0; 100 << 10];
    // More than the kernels hold.
    while sink.closed("output_overflow") == 0 {
        inbound.sender.answer([&answer[..]].into_iter());
        tokio::task::yield_now().await;
    }
    peer.rest().await;
    assert_eq!(sink.socket.snapshot().senders.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_not_read_is_shown_life() {
    for (kind, fits) in kinds() {
        let config = InboundConfig { in_flight_bytes: 1000, ..config(kind) };
        let mut sink = Sink::start(config).await;
        let mut peer = sink.peer(fits).await;
        while fits == "PUB" && peer.frame().await.1 != b"\x09SUBSCRIBE" {}
        peer.send(&command(b"\x04PING\0\0a")).await;
        assert_eq!(peer.frame().await, (4, b"\x04PONGa".to_vec()));
        // The second one waits for the memory that the first one has.
        peer.send(&[long_message(900), long_message(900)].concat()).await;
        let first = sink.next().await;
        peer.send(&command(b"\x04PING\0\0b")).await;
        for _ in 0..3 {
            assert_eq!(peer.frame().await, (4, b"\x04PONG".to_vec()));
        }
        let snapshot = sink.socket.snapshot();
        assert_eq!((snapshot.senders_held, snapshot.senders[0].received), (1, 1));
        drop(first);
        sink.next().await;
        while peer.frame().await != (4, b"\x04PONGb".to_vec()) {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_on_hold_keeps_no_memory_from_others() {
    for (kind, fits) in kinds() {
        let config = InboundConfig { in_flight_bytes: 1000, ..config(kind) };
        let mut sink = Sink::start(config).await;
        let mut held = sink.peer(fits).await;
        held.send(&long_message(900)).await;
        let Inbound { sender, content, mut permit } = sink.messages.recv().await.unwrap();
        sender.hold(true);
        eventually("it is not read", || sink.socket.snapshot().senders_held == 1).await;
        assert_eq!((sink.socket.held(), permit.set_aside()), (None, None));
        sink.socket.set_aside(&content, &mut permit);
        // All there is: a larger message has no more.
        assert_eq!(permit.set_aside(), Some(1000));
        let snapshot = sink.socket.snapshot();
        assert_eq!((snapshot.bytes_in_flight, snapshot.senders[0].under_way), (0, 1));
        held.send(&message(b"later")).await;
        let mut other = sink.peer(fits).await;
        other.send(&long_message(900)).await;
        let others = sink.next().await;
        assert_ne!(others.sender.id(), sender.id());
        let room = sink.socket.room(1000);
        drop(others);
        permit.take_in(room.await);
        assert_eq!((sink.socket.snapshot().bytes_in_flight, permit.set_aside()), (1000, None));
        let rest = permit.split(0, 0, 400);
        drop(permit);
        assert_eq!(sink.socket.snapshot().bytes_in_flight, 400);
        drop(rest);
        sender.hold(false);
        assert_eq!(frames(&sink.next().await), [b"later"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_the_end_of_a_sender_is_handed_over() {
    for (kind, fits) in kinds() {
        let config = InboundConfig { in_flight_bytes: 1000, ..config(kind) };
        let mut sink = Sink::start(config).await;
        let mut peer = sink.peer(fits).await;
        // A frame with a flag that there is not.
        let messages = [long_message(900), long_message(800), vec![0x80, 0]].concat();
        peer.send(&messages).await;
        let first = timeout(PATIENCE, sink.messages.recv()).await.unwrap().unwrap();
        let second = timeout(PATIENCE, sink.messages.recv()).await.unwrap().unwrap();
        assert_eq!((first.permit.set_aside(), first.content.memory() >= 900), (None, true));
        assert_eq!(second.permit.set_aside(), Some(message_weight(800, 1)));
        assert_eq!(sink.socket.snapshot().bytes_in_flight, 1000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_lead_to_one_peer_are_connected_once() {
    let publisher = zmq_socket(zmq::XPUB);
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    let address = publisher.get_last_endpoint().unwrap().unwrap();
    let port = address.rsplit_once(':').unwrap().1;
    let connect = ["127.0.0.1", "localhost"].map(|host| endpoint(&format!("tcp://{host}:{port}")));
    let config = InboundConfig {
        bind: Vec::new(),
        connect: connect.into(),
        ..config(InboundKind::Sub(vec![b"t".to_vec()]))
    };
    let mut sink = Sink::start(config).await;
    assert_eq!(publisher.recv_bytes(0).unwrap(), b"\x01t");
    eventually("the other one is left out", || sink.closed("same_peer") >= 1).await;
    for body in ["t1", "t2"] {
        publisher.send(body, 0).unwrap();
    }
    assert_eq!(frames(&sink.next().await), [b"t1"]);
    assert_eq!(frames(&sink.next().await), [b"t2"]);
    assert_eq!(sink.socket.snapshot().accepted, 1);
}
