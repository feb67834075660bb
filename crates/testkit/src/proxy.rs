//! A TCP proxy that cuts, stalls, slows down, refuses, and swallows requests.
//!
//! Clients of Kafka go where it tells them, so the broker has to advertise the proxy's port:
//! [`crate::KafkaNode::start_behind_proxy`].

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::ports::free_port;

/// The treatment of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Stall,
    /// The bytes that pass in a second, in each direction of each connection.
    Slow(u64),
    Swallow(i16),
    Refuse,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    upstream: String,
    open: Vec<Open>,
    swallowed: Vec<TcpStream>,
    ended: bool,
}

#[derive(Debug)]
struct Open {
    ends: [TcpStream; 2],
    used: Arc<Mutex<Instant>>,
}

impl Open {
    fn cut(&self) {
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicU64,
}

/// A proxy on a port of 127.0.0.1. Dropping it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port for connections to `upstream` (`host:port`).
    pub fn start(upstream: &str) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let state = State {
            mode: Mode::Pass,
            upstream: upstream.into(),
            open: Vec::new(),
            swallowed: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.state.lock().unwrap().ended {
                    return;
                }
                serve(client, &accepting);
            }
        });
        Self { port, shared }
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The target of later connections.
    pub fn set_upstream(&self, upstream: &str) {
        self.shared.state.lock().unwrap().upstream = upstream.to_owned();
    }

    /// Cuts every open connection; new ones are served.
    pub fn cut(&self) {
        for open in self.shared.state.lock().unwrap().open.drain(..) {
            open.cut();
        }
    }

    /// Cuts the open connections that carried nothing for so long, as brokers and load balancers
    /// do; returns how many.
    pub fn cut_idle(&self, idle: Duration) -> usize {
        let mut state = self.shared.state.lock().unwrap();
        let before = state.open.len();
        state.open.retain(|open| {
            let is_used = open.used.lock().unwrap().elapsed() < idle;
            if !is_used {
                open.cut();
            }
            is_used
        });
        before - state.open.len()
    }

    /// Lets nothing through, in either direction, with all connections left open.
    pub fn stall(&self) {
        self.set(Mode::Stall);
    }

    /// Lets so many bytes a second through, in each direction of each connection.
    pub fn slow(&self, bytes_per_second: u64) {
        self.set(Mode::Slow(bytes_per_second));
    }

    /// Cuts all connections, and closes new ones at once.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
        self.cut();
    }

    /// Swallows all that a client sends on a connection from a request with this API key (of
    /// Kafka's protocol) on. Other connections are served.
    pub fn swallow(&self, api_key: i16) {
        self.set(Mode::Swallow(api_key));
    }

    /// Connections that are swallowed now.
    pub fn swallowed(&self) -> usize {
        self.shared.state.lock().unwrap().swallowed.len()
    }

    /// Ends [`Self::stall`], [`Self::slow`], [`Self::refuse`] and [`Self::swallow`], which leaves
    /// connections that are cut now.
    pub fn resume(&self) {
        self.set(Mode::Pass);
        for stream in self.shared.state.lock().unwrap().swallowed.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connections accepted so far, refused ones too.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    fn set(&self, mode: Mode) {
        self.shared.state.lock().unwrap().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().ended = true;
        self.set(Mode::Refuse);
        self.cut();
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(client: TcpStream, shared: &Arc<Shared>) {
    shared.accepted.fetch_add(1, Ordering::Relaxed);
    let upstream = {
        let state = shared.state.lock().unwrap();
        if state.mode == Mode::Refuse {
            return;
        }
        state.upstream.clone()
    };
    let Ok(server) = TcpStream::connect(upstream) else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let mut state = shared.state.lock().unwrap();
    // `refuse` may have come while we connected; what is not in `open` would never be cut.
    if state.mode == Mode::Refuse {
        return;
    }
    let used = Arc::new(Mutex::new(Instant::now()));
    let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
    state.open.push(Open { ends, used: Arc::clone(&used) });
    drop(state);
    let ends = [
        (client.try_clone().unwrap(), server.try_clone().unwrap(), Some(Requests::default())),
        (server, client, None),
    ];
    for (from, to, requests) in ends {
        let (shared, used) = (Arc::clone(shared), Arc::clone(&used));
        std::thread::spawn(move || pump(from, to, requests, &used, &shared));
    }
}

/// The beginnings of a client's requests: a length of four bytes, then the API key in two.
#[derive(Debug, Default)]
struct Requests {
    /// Bytes of the request that are still to come.
    left: u64,
    head: Vec<u8>,
}

impl Requests {
    /// Takes the next bytes; gives the API keys of the requests whose beginning is among them.
    fn take(&mut self, mut bytes: &[u8]) -> Vec<i16> {
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            let passed =
                usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= passed as u64;
            let head = (6 - self.head.len()).min(bytes.len() - passed);
            self.head.extend(&bytes[passed..passed + head]);
            bytes = &bytes[passed + head..];
            if let [a, b, c, d, e, f] = self.head[..] {
                self.left = u64::from(u32::from_be_bytes([a, b, c, d])).saturating_sub(2);
                keys.push(i16::from_be_bytes([e, f]));
                self.head.clear();
            }
        }
        keys
    }
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    mut requests: Option<Requests>,
    used: &Mutex<Instant>,
    shared: &Shared,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut swallowed = false;
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        *used.lock().unwrap() = Instant::now();
        let mut state = shared.state.lock().unwrap();
        while state.mode == Mode::Stall && !state.ended {
            state = shared.changed.wait_timeout(state, Duration::from_secs(1)).unwrap().0;
        }
        let keys =
            requests.as_mut().map(|requests| requests.take(&buffer[..size])).unwrap_or_default();
        if let Mode::Swallow(key) = state.mode
            && keys.contains(&key)
            && !swallowed
        {
            swallowed = true;
            state.swallowed.push(from.try_clone().unwrap());
        }
        let mode = state.mode;
        drop(state);
        if swallowed {
            continue;
        }
        if let Mode::Slow(bytes_per_second) = mode {
            std::thread::sleep(Duration::from_secs_f64(size as f64 / bytes_per_second as f64));
        }
        if to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
