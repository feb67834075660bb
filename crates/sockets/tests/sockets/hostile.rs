//! Peers that do not fit, are silent, ask for too much, or are no ZMTP peers: each is closed alone,
//! and counted.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use zafka_sockets::config::{Heartbeat, Limits, PubConfig};

use crate::raw::{RawPeer, command, greeting, ready, subscription};
use crate::support::{PATIENCE, Server, bodies_until_end, config, eventually, zmq_socket, zmq_sub};

/// The socket still serves a SUB that was there before, and a new one.
async fn still_serves(server: &mut Server, witness: zmq::Socket) {
    let newcomer = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(2).await;
    server.send("t", "1").await;
    server.send("t", "end").await;
    assert_eq!(bodies_until_end(witness).await, ["1"]);
    assert_eq!(bodies_until_end(newcomer).await, ["1"]);
}

async fn with_limits(limits: Limits) -> (Server, zmq::Socket) {
    let server = Server::start(PubConfig { limits, ..config() }).await;
    let witness = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(1).await;
    (server, witness)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_types_that_do_not_fit_are_refused() {
    for kind in [zmq::PULL, zmq::REQ, zmq::DEALER, zmq::PUB] {
        let (mut server, witness) = with_limits(Limits::default()).await;
        let stranger = zmq_socket(kind);
        stranger.connect(&server.address()).unwrap();
        server.until_closed("socket_type").await;
        server.send("t", "0").await;
        if kind == zmq::PULL {
            stranger.set_rcvtimeo(50).unwrap();
            assert!(stranger.recv_bytes(0).is_err(), "it must not be given anything");
        }
        drop(stranger);
        server.send("t", "end").await;
        assert_eq!(bodies_until_end(witness).await, ["0"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_zmtp_3_is_closed_with_a_reason() {
    let mut bad_flags = greeting(1);
    bad_flags.extend_from_slice(&ready("SUB"));
    bad_flags.extend_from_slice(&[0xf0, 1, 1]);
    let mut message_first = greeting(1);
    message_first.extend_from_slice(&subscription(b"t"));
    let mut plain = greeting(1);
    plain[12..17].copy_from_slice(b"PLAIN");
    let mut error = greeting(1);
    error.extend_from_slice(&ready("SUB"));
    error.extend_from_slice(&command(b"\x05ERROR\x02no"));
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "version"),
        ("ZMTP 2", b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x02\0\0".to_vec(), "version"),
        ("ZMTP 1", b"\x01\0".to_vec(), "version"),
        (
            "random bytes",
            (0..200).map(|byte: u8| byte.wrapping_mul(97) ^ 0x5a).collect(),
            "version",
        ),
        ("another mechanism", plain, "mechanism"),
        ("a message in the handshake", message_first, "malformed"),
        ("a PULL", [greeting(1), ready("PULL")].concat(), "socket_type"),
        ("flags that do not exist", bad_flags, "malformed"),
        ("an ERROR", error, "peer_error"),
    ];
    let (mut server, witness) = with_limits(Limits::default()).await;
    for (what, bytes, reason) in cases {
        let before = server.closed(reason);
        let mut peer = RawPeer::connect(&server.address()).await;
        peer.send(&bytes).await;
        eventually(what, || server.closed(reason) == before + 1).await;
        peer.rest().await;
    }
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_has_a_deadline() {
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let (mut server, witness) = with_limits(limits).await;
    for begun in [0, 5, 64] {
        let before = server.closed("handshake_timeout");
        let mut peer = RawPeer::connect(&server.address()).await;
        peer.send(&greeting(1)[..begun]).await;
        eventually("the deadline", || server.closed("handshake_timeout") == before + 1).await;
        peer.rest().await;
    }
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inbound_frames_are_limited() {
    let (mut server, witness) =
        with_limits(Limits { max_inbound_frame: 100, ..Limits::default() }).await;
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    peer.subscribe(&"x".repeat(99)).await;
    server.until_subscribed(2).await;
    peer.send(&[2, 0, 0, 0, 0xff, 0, 0, 0, 0]).await;
    server.until_closed("frame_limit").await;
    peer.rest().await;
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_limited() {
    let (mut server, witness) =
        with_limits(Limits { max_subscriptions: 3, ..Limits::default() }).await;
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    for prefix in ["a", "b", "c", "a", "b"] {
        peer.subscribe(prefix).await;
    }
    eventually("three prefixes are counted", || {
        server.socket.snapshot().peers.iter().any(|peer| peer.subscriptions_total == 3)
    })
    .await;
    peer.subscribe("d").await;
    server.until_closed("subscription_limit").await;
    peer.rest().await;
    // One that is long takes as much memory as several.
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    let subscribe = [b"\x09SUBSCRIBE".to_vec(), vec![b'a'; 3 * 256 + 1]].concat();
    let mut frame = vec![6, 0, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&u16::try_from(subscribe.len()).unwrap().to_be_bytes());
    peer.send(&[frame, subscribe].concat()).await;
    peer.rest().await;
    assert_eq!(server.closed("subscription_limit"), 2);
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_subscribes_before_it_has_read_our_ready_gets_that_first() {
    let mut server = Server::start(config()).await;
    let mut peer = RawPeer::connect(&server.address()).await;
    let publishing = async {
        // Something is published all the while.
        for index in 0.. {
            server.send("t", &index.to_string()).await;
            if server.socket.snapshot().counters.messages_sent > 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let peering = async {
        peer.send(&[greeting(1), ready("SUB"), subscription(b"t")].concat()).await;
        let mut theirs = [0; 64];
        peer.0.read_exact(&mut theirs).await.unwrap();
        let (flags, body) = peer.frame().await;
        assert!(flags == 4 && body.starts_with(b"\x05READY"), "{body:?}");
        assert_eq!(peer.frame().await, (1, b"t".to_vec()));
    };
    tokio::join!(publishing, peering);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_limited() {
    let (mut server, witness) = with_limits(Limits { max_peers: 2, ..Limits::default() }).await;
    let mut second = RawPeer::connect(&server.address()).await;
    second.shake_hands(1).await;
    let mut third = RawPeer::connect(&server.address()).await;
    assert_eq!(third.rest().await, b"");
    server.until_closed("peer_limit").await;
    drop(second);
    server.until_closed("peer").await;
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered() {
    let mut server = Server::start(config()).await;
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    peer.send(&command(b"\x04PING\0\0who")).await;
    assert_eq!(peer.frame().await, (4, b"\x04PONGwho".to_vec()));

    // libzmq closes a peer that does not answer, and would connect again.
    let sub = zmq_socket(zmq::SUB);
    sub.set_heartbeat_ivl(20).unwrap();
    sub.set_heartbeat_timeout(1000).unwrap();
    sub.set_heartbeat_ttl(1000).unwrap();
    sub.set_subscribe(b"t").unwrap();
    sub.connect(&server.address()).unwrap();
    server.until_subscribed(1).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.send("t", "end").await;
    bodies_until_end(sub).await;
    assert_eq!(server.socket.snapshot().accepted, 2, "it had no reason to connect again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_closed_and_a_3_0_peer_is_not_pinged() {
    let heartbeat =
        Heartbeat { interval: Duration::from_millis(50), timeout: Duration::from_millis(300) };
    let mut server = Server::start(PubConfig { heartbeat: Some(heartbeat), ..config() }).await;
    let mut old = RawPeer::connect(&server.address()).await;
    old.shake_hands(0).await;
    old.subscribe("t").await;
    let witness = zmq_sub(&server.address(), &["t"]);
    server.until_subscribed(2).await;

    let mut silent = RawPeer::connect(&server.address()).await;
    silent.shake_hands(1).await;
    assert_eq!(silent.frame().await, (4, b"\x04PING\0\x03".to_vec()));
    server.until_closed("heartbeat").await;
    silent.rest().await;

    // By now the old peer would have been pinged, too. What it gets first is a message.
    server.send("t", "end").await;
    assert_eq!(old.frame().await, (1, b"t".to_vec()));
    assert_eq!(old.frame().await, (0, b"end".to_vec()));
    bodies_until_end(witness).await;
    assert_eq!(server.closed("heartbeat"), 1, "libzmq answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_pings_and_does_not_read_stays_and_is_not_answered_for_ever() {
    const PINGS: usize = 500_000;
    let (mut server, witness) =
        with_limits(Limits { max_subscriptions: 1_000_000, ..Limits::default() }).await;
    let mut peer = RawPeer::connect_small(&server.address()).await;
    peer.shake_hands(1).await;
    // More than the kernels hold, and more than is kept for it.
    let pings = command(b"\x04PING\0\x000123456789abcdef").repeat(1000);
    for _ in 0..PINGS / 1000 {
        peer.send(&pings).await;
    }
    peer.subscribe("p").await;
    server.until_subscribed(2).await;
    server.send("p", "x").await;
    let (mut reader, mut pongs) = (tokio::io::BufReader::new(&mut peer.0), 0);
    loop {
        let mut head = [0; 2];
        timeout(PATIENCE, reader.read_exact(&mut head)).await.expect("a frame").unwrap();
        let mut body = vec![0; head[1].into()];
        reader.read_exact(&mut body).await.unwrap();
        if head[0] != 4 {
            assert_eq!(body, b"p");
            break;
        }
        pongs += 1;
    }
    assert!(pongs > 0 && pongs < PINGS, "{pongs} answers");
    drop(peer);
    server.until_subscribed(1).await;
    still_serves(&mut server, witness).await;
}

/// SUBSCRIBE commands for so many prefixes of 200 bytes, those of peer `peer`.
fn long_subscriptions(peer: usize, count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|index| subscription(format!("{peer}/{index}/{}", "x".repeat(190)).as_bytes()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_limited_over_all_peers_and_those_who_need_no_more_stay() {
    const COUNT: usize = 1000;
    // Each takes more than its prefixes, so that three do not fit.
    let limits = Limits { peer_memory: 3 * COUNT * 1000, ..Limits::default() };
    let (mut server, witness) = with_limits(limits).await;
    let mut peers = Vec::new();
    while server.closed("peer_memory") == 0 {
        assert!(peers.len() < 3, "so many prefixes fit into so little memory");
        let mut peer = RawPeer::connect(&server.address()).await;
        peer.shake_hands(1).await;
        peer.send(&long_subscriptions(peers.len(), COUNT)).await;
        eventually("all are counted, or one is too many", || {
            let total: usize =
                server.socket.snapshot().peers.iter().map(|peer| peer.subscriptions_total).sum();
            server.closed("peer_memory") > 0 || total == 1 + (peers.len() + 1) * COUNT
        })
        .await;
        peers.push(peer);
    }
    peers.pop().unwrap().rest().await;
    assert_eq!(server.closed("peer_memory"), 1);
    // Its memory is free again, and the others are still there.
    eventually("the others stay", || server.socket.snapshot().peers.len() == 1 + peers.len()).await;
    let mut modest = RawPeer::connect(&server.address()).await;
    modest.shake_hands(1).await;
    modest.subscribe("m").await;
    server.until_subscribed(2 + peers.len()).await;
    server.send("m", "x").await;
    assert_eq!(modest.frame().await, (1, b"m".to_vec()));
    drop((modest, peers));
    server.until_subscribed(1).await;
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_frame_counts_until_the_rest_has_come() {
    let limits = Limits { peer_memory: 110_000, ..Limits::default() };
    let (mut server, witness) = with_limits(limits).await;
    let half = [vec![2, 0, 0, 0, 0, 0, 0, 0xff, 0xff], vec![0; 60_000]].concat();
    let mut first = RawPeer::connect(&server.address()).await;
    first.shake_hands(1).await;
    for _ in 0..3 {
        first.send(&half).await;
        first.send(&[0; 0xffff - 60_000]).await;
    }
    first.send(&half).await;
    // What it has sent so far is processed before its next PING.
    first.send(&[0; 0xffff - 60_000]).await;
    first.send(&command(b"\x04PING\0\0")).await;
    assert_eq!(first.frame().await, (4, b"\x04PONG".to_vec()));
    let mut second = RawPeer::connect(&server.address()).await;
    second.shake_hands(1).await;
    first.send(&half).await;
    second.send(&half).await;
    server.until_closed("peer_memory").await;
    assert_eq!(server.closed("peer_memory"), 1, "there is memory for one of them");
    drop((first, second));
    still_serves(&mut server, witness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_keep_a_subscriber_out() {
    let mut server = Server::start(config()).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(RawPeer::connect(&server.address()).await);
    }
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    peer.subscribe("t").await;
    server.until_subscribed(1).await;
    server.send("t", "x").await;
    assert_eq!(peer.frame().await, (1, b"t".to_vec()));
    // Before it was accepted, places had to become free.
    assert!(server.closed("handshake_timeout") >= 300, "{}", server.closed("handshake_timeout"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_asked_for_too_much_is_shown_life_while_it_is_not_read() {
    let mut server = Server::start(config()).await;
    let mut peer = RawPeer::connect(&server.address()).await;
    peer.shake_hands(1).await;
    peer.send(&command(b"\x04PING\0\0a")).await;
    assert_eq!(peer.frame().await, (4, b"\x04PONGa".to_vec()));
    // The same subscription again and again: what it may ask for in several seconds.
    peer.send(&subscription(b"t").repeat(60_000)).await;
    server.until_subscribed(1).await;
    peer.send(&command(b"\x04PING\0\0b")).await;
    for _ in 0..3 {
        assert_eq!(peer.frame().await, (4, b"\x04PONG".to_vec()));
    }
    // Messages come meanwhile.
    server.send("t", "x").await;
    while peer.frame().await != (0, b"x".to_vec()) {}
}
