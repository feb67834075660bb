//! Subscribers: one of ours that takes all it gets, and one of libzmq that reads when it is told
//! to.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use zafka_envelope::{OwnedRecord, decode_json};
use zafka_sockets::{Endpoint, SubEvent, SubSocket};

use crate::support::{PATIENCE, eventually};

/// A SUB of ours that takes all it gets.
pub struct Sub {
    received: Arc<Mutex<Vec<OwnedRecord>>>,
    task: JoinHandle<()>,
}

impl Sub {
    pub fn start(endpoint: Endpoint, prefix: &str) -> Self {
        let received = Arc::<Mutex<Vec<OwnedRecord>>>::default();
        let records = Arc::clone(&received);
        let mut socket = SubSocket::new(endpoint, vec![prefix.as_bytes().to_vec()]);
        let task = tokio::spawn(async move {
            loop {
                if let SubEvent::Message(frames) = socket.next().await {
                    let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
                    records.lock().push(decode_json(&frames).unwrap());
                }
            }
        });
        Self { received, task }
    }

    pub fn records(&self) -> Vec<OwnedRecord> {
        self.received.lock().clone()
    }

    pub fn count(&self) -> usize {
        self.received.lock().len()
    }

    pub async fn until(&self, count: usize) -> Vec<OwnedRecord> {
        eventually(&format!("{count} records came"), || self.count() >= count).await;
        self.records()
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A SUB of libzmq that reads only when it is told to, and holds as little as it can.
pub struct LazySub {
    /// Receives the number of messages that it is to read.
    wanted: Sender<Option<usize>>,
    received: Receiver<Vec<OwnedRecord>>,
}

impl LazySub {
    pub fn connect(endpoint: &str, prefix: &str) -> Self {
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvhwm(1).unwrap();
        socket.set_reconnect_ivl(20).unwrap();
        socket.set_subscribe(prefix.as_bytes()).unwrap();
        socket.connect(endpoint).unwrap();
        let (wanted, wants) = channel::<Option<usize>>();
        let (receives, received) = channel();
        std::thread::spawn(move || {
            for count in wants {
                let timeout = if count.is_some() { PATIENCE } else { Duration::from_millis(500) };
                socket.set_rcvtimeo(timeout.as_millis() as i32).unwrap();
                let mut records = Vec::new();
                while records.len() < count.unwrap_or(usize::MAX)
                    && let Ok(frames) = socket.recv_multipart(0)
                {
                    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                    records.push(decode_json(&frames).unwrap());
                }
                if receives.send(records).is_err() {
                    return;
                }
            }
        });
        Self { wanted, received }
    }

    /// Reads so many, or as many as come before it has waited in vain.
    pub async fn read(self, count: usize) -> (Self, Vec<OwnedRecord>) {
        self.ask(Some(count)).await
    }

    /// Reads what is there.
    pub async fn read_rest(self) -> (Self, Vec<OwnedRecord>) {
        self.ask(None).await
    }

    async fn ask(self, count: Option<usize>) -> (Self, Vec<OwnedRecord>) {
        self.wanted.send(count).unwrap();
        tokio::task::spawn_blocking(move || {
            let records = self.received.recv().unwrap();
            (self, records)
        })
        .await
        .unwrap()
    }
}
