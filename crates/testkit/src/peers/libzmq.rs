//! A SUB of libzmq 4.3.4 (C, by the `zmq` crate) on a thread of this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Messages = Arc<Mutex<Vec<Vec<Vec<u8>>>>>;

/// A subscriber that collects messages until it is dropped. It cannot be stopped as a process;
/// [`super::Peer`] can.
#[derive(Debug)]
pub struct LibzmqSub {
    messages: Messages,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LibzmqSub {
    /// Connects to `endpoint` with these subscriptions.
    pub fn connect(endpoint: &str, prefixes: &[&str]) -> Self {
        Self::start(prefixes, |socket| socket.connect(endpoint))
    }

    /// Binds `endpoint`, for a PUB that connects.
    pub fn bind(endpoint: &str, prefixes: &[&str]) -> Self {
        Self::start(prefixes, |socket| socket.bind(endpoint))
    }

    /// Any socket set up by `open` after the subscriptions were made.
    fn start(prefixes: &[&str], open: impl FnOnce(&zmq::Socket) -> zmq::Result<()>) -> Self {
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.set_rcvtimeo(50).unwrap();
        socket.set_linger(0).unwrap();
        for prefix in prefixes {
            socket.set_subscribe(prefix.as_bytes()).unwrap();
        }
        open(&socket).unwrap();
        let messages = Messages::default();
        let ended = Arc::new(AtomicBool::new(false));
        let (into, end) = (Arc::clone(&messages), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match socket.recv_multipart(0) {
                    Ok(message) => into.lock().unwrap().push(message),
                    Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
                    Err(error) => panic!("libzmq: {error}"),
                }
            }
        });
        Self { messages, ended, thread: Some(thread) }
    }

    /// Messages so far, each as its frames.
    pub fn messages(&self) -> Vec<Vec<Vec<u8>>> {
        self.messages.lock().unwrap().clone()
    }

    /// Their number.
    pub fn count(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    /// Waits until there are `count` messages, and gives all; panics at the deadline.
    pub fn wait_messages(&self, count: usize, deadline: Duration) -> Vec<Vec<Vec<u8>>> {
        let end = Instant::now() + deadline;
        while self.count() < count {
            let found = self.count();
            assert!(Instant::now() < end, "{found} of {count} messages after {deadline:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.messages()
    }
}

impl Drop for LibzmqSub {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
