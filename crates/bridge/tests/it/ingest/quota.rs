//! A broker that holds senders back by a quota.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
/// The pause that each answer to a Produce request asks for.
const PAUSE: Duration = Duration::from_millis(300);
/// Requests of a partition that may be under way.
const WINDOW: u32 = 4;

/// A proxy before the mock cluster, which knows no quotas: it adds them to its answers.
struct Throttling {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_throttling: bool,
    /// The time of the first answer with a pause. `requests` counts those that came since.
    since: Option<Instant>,
    requests: u32,
}

impl Throttling {
    fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { is_throttling: true, ..State::default() }));
        let (shared, upstream) = (Arc::clone(&state), upstream.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                serve(client, server, port, &shared);
            }
        });
        Self { port, state }
    }
}

/// Passes requests and answers on, which come in the same order.
fn serve(client: TcpStream, server: TcpStream, port: u16, state: &Arc<Mutex<State>>) {
    let asked = Arc::new(Mutex::new(VecDeque::new()));
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (keys, counted) = (Arc::clone(&asked), Arc::clone(state));
    std::thread::spawn(move || {
        while let Some(request) = frame(&mut from) {
            let key = i16::from_be_bytes([request[4], request[5]]);
            keys.lock().unwrap().push_back(key);
            if key == PRODUCE {
                counted.lock().unwrap().requests += 1;
            }
            if to.write_all(&request).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to, state) = (server, client, Arc::clone(state));
    std::thread::spawn(move || {
        let theirs = from.peer_addr().unwrap().port();
        while let Some(mut answer) = frame(&mut from) {
            let key = asked.lock().unwrap().pop_front().unwrap();
            change(&mut answer, key, theirs, port, &state);
            if to.write_all(&answer).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// A length, and as many bytes.
fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    from.read_exact(&mut bytes).ok()?;
    let length = u32::from_be_bytes(bytes[..].try_into().unwrap()) as usize;
    bytes.resize(4 + length, 0);
    from.read_exact(&mut bytes[4..]).ok()?;
    Some(bytes)
}

fn change(answer: &mut [u8], key: i16, theirs: u16, ours: u16, state: &Mutex<State>) {
    match key {
        METADATA => {
            // The broker's address is the proxy's.
            let address = |port: u16| [b"127.0.0.1", &u32::from(port).to_be_bytes()[..]].concat();
            let (theirs, ours) = (address(theirs), address(ours));
            for at in 0..answer.len().saturating_sub(ours.len()) {
                if answer[at..].starts_with(&theirs) {
                    answer[at..at + ours.len()].copy_from_slice(&ours);
                }
            }
        }
        PRODUCE => {
            let mut state = state.lock().unwrap();
            if state.is_throttling {
                // Last there are throttle_time_ms, and no tagged fields.
                let at = answer.len() - 5;
                assert_eq!(answer[at..], [0; 5]);
                let pause = u32::try_from(PAUSE.as_millis()).unwrap();
                answer[at..at + 4].copy_from_slice(&pause.to_be_bytes());
                if state.since.is_none() {
                    (state.since, state.requests) = (Some(Instant::now()), 0);
                }
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_senders_back_and_loses_nothing() {
    const MESSAGES: usize = 2_000;
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let proxy = Throttling::start(&broker.embedded.bootstrap());
    let mut config = ingest(InboundKind::Pull, &["{topic}", "{value}"]);
    config.socket.in_flight_bytes = 64 << 10;
    let cluster = broker.cluster_at(format!("127.0.0.1:{}", proxy.port));
    let relay = Relay::start(&cluster, [config]).await.unwrap();
    let running = Running { status: relay.status_handle(), relay };
    let push = running.connect(zmq::PUSH);
    let sending = tokio::task::spawn_blocking(move || {
        push.set_linger(-1).unwrap();
        for number in 0..MESSAGES {
            push.send_multipart([&b"kiln"[..], format!("{number:1000}").as_bytes()], 0).unwrap();
        }
        push
    });
    eventually("the sender is held, for a quota", || {
        let status = running.ingest();
        let is_quota = status.waiting.iter().any(|wait| wait.kind == "quota");
        status.ready && status.senders_held == 1 && is_quota
    })
    .await;
    eventually("several pauses have passed", || proxy.state.lock().unwrap().requests > 2 * WINDOW)
        .await;
    let (requests, pauses) = {
        let mut state = proxy.state.lock().unwrap();
        state.is_throttling = false;
        (state.requests, state.since.unwrap().elapsed().as_millis() / PAUSE.as_millis())
    };
    // Those that were under way, and as many after each pause (KIP-219). A slow machine sends
    // fewer.
    let most = u128::from(WINDOW) * (pauses + 2);
    assert!(u128::from(requests) <= most, "{requests} requests in {pauses} pauses");
    assert_identity(&running.ingest());
    eventually("all were taken", || running.ingest().counters.acknowledged == MESSAGES as u64)
        .await;
    eventually("nothing waits", || {
        let status = running.ingest();
        status.waiting.is_empty() && status.senders_held == 0
    })
    .await;
    let status = running.ingest();
    assert_identity(&status);
    assert_eq!((status.counters.senders_accepted, status.counters.kafka_errors), (1, 0));
    drop(sending.await.unwrap());
    running.relay.shutdown(SHUTDOWN).await;
    let numbers = read_log(&broker, "edge.kiln", |sub| {
        let number = |_| {
            let frames = sub.recv_multipart(0).unwrap();
            std::str::from_utf8(&frames[3]).unwrap().trim().parse().unwrap()
        };
        (0..MESSAGES).map(number).collect::<Vec<usize>>()
    })
    .await;
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
}
