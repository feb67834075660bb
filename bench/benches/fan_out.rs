//! The cost of publishing: to peers that want the messages, and past peers that do not. Over real
//! sockets, read by threads that throw everything away.
//! `cargo bench -p zafka-bench --bench fan_out`; the throughput column says messages a second, to
//! all peers together.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark that cannot begin ends")]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tokio::runtime::Runtime;
use zafka_sockets::config::{Limits, PubConfig, SlowPeer};
use zafka_sockets::{Chunk, Origin, PubSocket, Publisher};

#[path = "../src/tools/sub.rs"]
mod sub;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Messages of a chunk: about 128 KiB of `json` records of 100 bytes.
const MESSAGES: usize = 600;
/// Chunks that are published in a row.
const CHUNKS: usize = 16;
/// Room for a few of them only, so that what is measured is not what the ring takes before a peer
/// has anything.
const RING_BYTES: usize = 512 * 1024;
const TOPIC: &[u8] = b"orders";

fn main() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    divan::main();
}

/// Chunks that every peer is written as they are.
#[divan::bench(args = [1, 4, 16, 64])]
fn to_peers(bencher: Bencher<'_, '_>, peers: usize) {
    let mut bench = Bench::start(peers, TOPIC);
    for stream in bench.streams.drain(..) {
        thread::spawn(move || drain(stream));
    }
    bench.publish(bencher, MESSAGES, MESSAGES * CHUNKS * peers);
}

/// Lone messages that no peer subscribed to.
#[divan::bench(args = [1, 100, 5000])]
fn past_idle_peers(bencher: Bencher<'_, '_>, peers: usize) {
    let mut bench = Bench::start(peers, b"invoices");
    bench.publish(bencher, 1, CHUNKS);
}

struct Bench {
    runtime: Runtime,
    publisher: Publisher,
    streams: Vec<TcpStream>,
    _socket: PubSocket,
}

impl Bench {
    fn start(peers: usize, prefix: &[u8]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let config = PubConfig {
            bind: vec!["tcp://127.0.0.1:*".parse().expect("an endpoint")],
            ipc_mode: None,
            connect: Vec::new(),
            slow_peer: SlowPeer::Block,
            min_peers: 0,
            ring_bytes: RING_BYTES,
            peer_timeout: None,
            heartbeat: None,
            limits: Limits::default(),
        };
        let (socket, publisher) =
            runtime.block_on(PubSocket::start("bench", config)).expect("a socket");
        let endpoint = socket.endpoints().first().map(ToString::to_string).unwrap_or_default();
        let address = endpoint.trim_start_matches("tcp://").to_owned();
        let streams = (0..peers).map(|_| sub::connect(&address, prefix).expect("a peer")).collect();
        while socket.snapshot().peers_subscribed < peers {
            thread::sleep(Duration::from_millis(1));
        }
        Self { runtime, publisher, streams, _socket: socket }
    }

    /// Measures publishing chunks of `messages`, room for each awaited; `written` is what the peers
    /// get of them together.
    fn publish(&mut self, bencher: Bencher<'_, '_>, messages: usize, written: usize) {
        let Self { runtime, publisher, .. } = self;
        // The peer tasks are told from here.
        let _guard = runtime.enter();
        let chunks = || [(); CHUNKS].map(|()| chunk(messages));
        bencher.counter(ItemsCount::new(written)).with_inputs(chunks).bench_local_values(
            |chunks| {
                for chunk in chunks {
                    if !publisher.admits(chunk.weight()) {
                        runtime.block_on(publisher.room(chunk.weight()));
                    }
                    publisher.publish(chunk);
                }
            },
        );
    }
}

fn chunk(messages: usize) -> Chunk {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..messages {
        for (last, body) in
            [(false, TOPIC), (false, &[b'm'; 80]), (false, &[b'k'; 8]), (true, &[b'v'; 100])]
        {
            bytes.extend_from_slice(&[u8::from(!last), body.len() as u8]);
            bytes.extend_from_slice(body);
        }
        ends.push(bytes.len());
    }
    Chunk::new(bytes, ends, true, messages as u64, Origin::new(0), 1)
}

/// Reads until the relay ends.
fn drain(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    while !matches!(stream.read(&mut buffer), Ok(0) | Err(_)) {}
}
