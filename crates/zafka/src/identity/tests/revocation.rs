//! Half of a thousand connected peers is revoked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zafka_identity::Revoked;
use zafka_sockets::config::{EndpointConfig, Mechanism, PubConfig};
use zafka_sockets::{Chunk, Endpoint, Origin, PubSocket, Publisher, SubEvent, SubSocket};
use zafka_zmtp::curve::{ClientSide, ServerSide};
use zafka_zmtp::frame::{Position, put_header};

use super::*;
use crate::open_files;
use crate::random::random;

/// Keys of each of the two subjects, and connections with each.
const KEYS: u8 = 10;
const CONNECTIONS: usize = 50;
/// Connections of each subject.
const HALF: usize = KEYS as usize * CONNECTIONS;
/// Messages before and after the revocation.
const MESSAGES: usize = 20;

/// Counts of what a subject's connections have seen.
#[derive(Debug, Default)]
struct Seen {
    lost: AtomicUsize,
    messages: AtomicUsize,
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(20 * DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Counts what comes to one connection.
async fn watch(mut sub: SubSocket, seen: Arc<Seen>) {
    loop {
        let counter = match sub.next().await {
            SubEvent::Connected => continue,
            SubEvent::Disconnected(_) => &seen.lost,
            SubEvent::Message(_) => &seen.messages,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn connect(to: &Endpoint, number: u8) -> SubSocket {
    let side = ClientSide { keys: key(number), server: key(1).public(), token: None, random };
    let mechanism = Mechanism::CurveClient(Arc::new(side));
    SubSocket::new(EndpointConfig { endpoint: to.clone(), mechanism }, vec![Vec::new()])
}

fn publish(publisher: &mut Publisher, origin: &Arc<Origin>, position: &mut i64) {
    for _ in 0..MESSAGES {
        let mut message = Vec::new();
        put_header(&mut message, Position::Last, 6);
        message.extend_from_slice(b"orders");
        *position += 1;
        let ends = vec![message.len()];
        publisher.publish(Chunk::new(message, ends, true, 1, Arc::clone(origin), *position));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute of two cores without optimization"]
async fn half_of_a_thousand_connected_peers() {
    open_files::raise_limit();
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&config(&issuer)).unwrap();
    let gate = &identity.gate;
    let side = ServerSide { keys: vec![key(1)], random };
    let bind = EndpointConfig {
        endpoint: "tcp://127.0.0.1:*".parse().unwrap(),
        mechanism: Mechanism::CurveServer(Arc::new(side)),
    };
    let config = PubConfig { bind: vec![bind], ..PubConfig::default() };
    let as_gate = Arc::clone(gate) as Arc<dyn Gate>;
    let (socket, mut publisher) =
        PubSocket::start_with_gate("r", config, Some(as_gate)).await.unwrap();
    let [alice, bob] = [(); 2].map(|()| Arc::new(Seen::default()));
    let mut watching = JoinSet::new();
    for (subject, seen, first) in [("alice", &alice, 10), ("bob", &bob, 100)] {
        for number in first..first + KEYS {
            wait_admitted(gate, number, &issuer.token(subject, 600, &dash())).await;
            for _ in 0..CONNECTIONS {
                watching.spawn(watch(connect(&socket.endpoints()[0], number), Arc::clone(seen)));
            }
        }
    }
    let subscribed = || socket.counts().peers_subscribed;
    until("all are there", || subscribed() == 2 * HALF).await;
    let origin = Origin::with(0, None, Some(socket.label("orders")));
    let mut position = 0;
    publish(&mut publisher, &origin, &mut position);
    let messages = |seen: &Seen| seen.messages.load(Ordering::Relaxed);
    until("all have the messages", || {
        messages(&alice) == HALF * MESSAGES && messages(&bob) == HALF * MESSAGES
    })
    .await;
    let [lost_before, bob_before] = [&alice, &bob].map(|seen| seen.lost.load(Ordering::Relaxed));

    let what = Revoked::Subject { issuer: None, subject: "alice".to_owned() };
    let begun = Instant::now();
    let done = gate.revoke(&what, Duration::from_secs(60), None).unwrap();
    assert_eq!((done.keys, done.connections), (usize::from(KEYS), HALF));
    until("alice is out", || subscribed() == HALF).await;
    until("she knows", || alice.lost.load(Ordering::Relaxed) >= lost_before + HALF).await;
    // How long it takes is told, not judged.
    eprintln!("{HALF} of {} connections were closed in {:?}", 2 * HALF, begun.elapsed());

    publish(&mut publisher, &origin, &mut position);
    until("bob has all messages", || messages(&bob) == HALF * 2 * MESSAGES).await;
    assert_eq!(messages(&alice), HALF * MESSAGES, "she gets no more");
    assert_eq!(bob.lost.load(Ordering::Relaxed), bob_before, "he loses no connection");
    let subjects = socket.snapshot().peers;
    assert!(subjects.iter().all(|peer| peer.subject.as_deref() == Some("bob")));
}
