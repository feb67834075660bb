//! Sends the lines of standard input to a zafka route, and prints where each is in Kafka's log.
//! Usage: send ENDPOINT TOPIC [KEY]
//!
//! The route is a `router` with `frames = ["{id}", "{topic}", "{key}", "{value}"]`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::BufRead;

use serde::Deserialize;

/// Lines that have no answer yet, at the most.
const WINDOW: usize = 1000;
/// After so many ms without an answer all of them are sent again: libzmq connects again by itself,
/// and tells nobody what was lost. Some may then be in the log twice.
const SILENCE: i32 = 10_000;

#[derive(Deserialize)]
struct Place {
    topic: String,
    partition: i32,
    /// Absent if the cluster did not tell it.
    offset: Option<i64>,
}

struct Sender {
    socket: zmq::Socket,
    topic: String,
    key: String,
    /// By number.
    unanswered: BTreeMap<u64, String>,
    refused: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, topic, key @ ..] = args.as_slice() else {
        return Err("usage: send ENDPOINT TOPIC [KEY]".into());
    };
    let socket = zmq::Context::new().socket(zmq::DEALER)?;
    socket.set_rcvtimeo(SILENCE)?;
    socket.connect(endpoint)?;
    let key = key.first().cloned().unwrap_or_default();
    let unanswered = BTreeMap::new();
    let mut sender = Sender { socket, topic: topic.clone(), key, unanswered, refused: false };
    for (number, line) in (0..).zip(std::io::stdin().lock().lines()) {
        while sender.unanswered.len() >= WINDOW {
            sender.wait()?;
        }
        sender.unanswered.insert(number, line?);
        sender.send(number)?;
        while sender.receive(zmq::DONTWAIT)? {}
    }
    while !sender.unanswered.is_empty() {
        sender.wait()?;
    }
    if sender.refused { Err("not every line was taken".into()) } else { Ok(()) }
}

impl Sender {
    fn send(&self, number: u64) -> Result<(), zmq::Error> {
        let (id, value) = (number.to_string(), &self.unanswered[&number]);
        self.socket.send_multipart([&id, &self.topic, &self.key, value], 0)
    }

    fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        if !self.receive(0)? {
            for number in self.unanswered.keys() {
                self.send(*number)?;
            }
        }
        Ok(())
    }

    /// Takes an answer; false if there is none.
    fn receive(&mut self, flags: i32) -> Result<bool, Box<dyn Error>> {
        let frames = match self.socket.recv_multipart(flags) {
            Ok(frames) => frames,
            Err(zmq::Error::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let [id, word, body] = frames.as_slice() else {
            return Err("no answer with an id: do the route's `frames` begin with {id}?".into());
        };
        let number: u64 = std::str::from_utf8(id)?.parse()?;
        // None: the second answer to what was sent twice.
        let Some(value) = self.unanswered.remove(&number) else { return Ok(true) };
        if word == b"OK" {
            let Place { topic, partition, offset } = serde_json::from_slice(body)?;
            let offset = offset.map_or("null".to_owned(), |offset| offset.to_string());
            println!("{topic}/{partition} @{offset} {value}");
        } else {
            self.refused = true;
            println!("refused {value}: {}", String::from_utf8_lossy(body));
        }
        Ok(true)
    }
}
