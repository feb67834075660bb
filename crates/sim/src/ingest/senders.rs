//! Senders: they send, vanish, come again on another connection, and send again what was not
//! answered.

use std::collections::VecDeque;

use serde_json::Value;
use zafka_bridge::sim::{Layout, ToldMessage};

use super::judge::Message;
use super::{IngestEvent, Ingesting};

/// A topic that the route may not write to.
const FORBIDDEN: &str = "secret";

/// Messages that a sender has under way at the most.
const UNANSWERED: usize = 30;

/// A record of a message, whatever it is sent as.
#[derive(Clone, Debug)]
struct Content {
    key: Vec<u8>,
    text: String,
    size: usize,
}

/// A message of a sender, whatever connection it is sent on.
#[derive(Clone, Debug)]
pub struct Wish {
    topic: String,
    records: Vec<Content>,
}

/// A sender.
#[derive(Debug)]
pub struct Sender {
    /// Its present connection.
    pub connection: u64,
    /// Messages that it has not heard of, by their tags, as they were sent on this connection.
    pub unanswered: VecDeque<(u64, Wish)>,
}

/// A message at the relay.
#[derive(Debug)]
pub struct Received {
    /// The message as the judge knows it.
    pub message: Message,
    /// The id that its answer is to carry.
    id: Vec<u8>,
    /// True if nobody may write it.
    is_forbidden: bool,
}

impl Ingesting {
    /// A sender sends some messages, and goes on later.
    pub(super) fn send(&mut self, index: usize) {
        let topics: Vec<String> =
            self.settings.topics.iter().map(|(topic, _)| topic.clone()).collect();
        // One that hears nothing sends no more for now.
        let room = UNANSWERED.saturating_sub(self.senders[index].unanswered.len()) as u64;
        for _ in 0..self.random.within(1, 7).min(self.left_to_send).min(room) {
            self.left_to_send -= 1;
            let topic = match self.random.percent(2) {
                true => FORBIDDEN.to_owned(),
                false => self.random.pick(&topics).trim_start_matches("edge.").to_owned(),
            };
            let records = match self.settings.layout {
                Layout::Batch => self.random.within(1, 6),
                _ => 1,
            };
            self.wishes += 1;
            let text = format!("wish {}", self.wishes);
            let content = |random: &mut crate::random::Random| Content {
                key: format!("key {}", random.below(5)).into_bytes(),
                text: text.clone(),
                size: if random.percent(3) { 300 } else { random.within(1, 60) as usize },
            };
            let records = (0..records).map(|_| content(&mut self.random)).collect();
            self.send_now(index, Wish { topic, records });
        }
        if self.left_to_send > 0 && !self.is_mended {
            let pause = if self.random.percent(5) { 1500 } else { 100 };
            self.after(0, pause, IngestEvent::Send(index));
        }
    }

    /// A message goes out on the present connection of its sender.
    pub(super) fn send_now(&mut self, index: usize, wish: Wish) {
        self.tags += 1;
        let tag = self.tags;
        let connection = self.senders[index].connection;
        self.senders[index].unanswered.push_back((tag, wish.clone()));
        // In their order.
        let earliest = self.arrivals.get(&connection).copied().unwrap_or_default();
        let wait = std::time::Duration::from_micros(self.random.below(5_000));
        let at = earliest.max(self.clock.now() + wait);
        self.arrivals.insert(connection, at);
        let wait = at - self.clock.now();
        self.clock.after(wait, IngestEvent::Arrive { connection, tag, wish });
    }

    /// A message arrives at the relay.
    pub(super) fn arrive(&mut self, connection: u64, tag: u64, wish: &Wish) {
        let is_there = self.senders.iter().any(|sender| sender.connection == connection);
        if !is_there && self.random.percent(50) {
            // Its sender has vanished with it.
            return;
        }
        let mut records = Vec::new();
        let mut packed = Vec::new();
        let mut single = (Vec::new(), Vec::new());
        for Content { key, text, size } in &wish.records {
            let (number, value) = self.judge.send(key, text, *size);
            records.push(number);
            put_packed(&mut packed, key, &value);
            single = (key.clone(), value);
        }
        let id = tag.to_string().into_bytes();
        let frames: Vec<&[u8]> = match self.settings.layout {
            Layout::WithId => vec![&id, wish.topic.as_bytes(), &single.0, &single.1],
            Layout::InOrder | Layout::Unanswered => {
                vec![wish.topic.as_bytes(), &single.0, &single.1]
            }
            Layout::Batch => vec![wish.topic.as_bytes(), &packed],
        };
        let message = Message { connection, topic: format!("edge.{}", wish.topic), records };
        let is_forbidden = wish.topic == FORBIDDEN;
        let now = self.clock.instant();
        self.handed += 1;
        self.tell(|| format!("message {tag} of connection {connection}: {message:?}"));
        let id = if self.settings.layout == Layout::WithId { id.clone() } else { Vec::new() };
        self.received.insert(tag, Received { message, id, is_forbidden });
        self.waiting.entry(connection).or_default().push_back(tag);
        let joins = self.random.percent(70);
        let of = (tag, connection);
        self.ingest.handle_message(of, joins, &frames, &mut self.producer, now);
        let told = self.ingest.take_told();
        self.told(told);
        self.turn_soon();
    }

    /// Messages are settled: the judge hears it before their senders do.
    pub(super) fn told(&mut self, told: Vec<ToldMessage>) {
        for ToldMessage { tag, sender: connection, is_acknowledged, answer } in told {
            self.settled += 1;
            self.acknowledged += u64::from(is_acknowledged);
            let waiting = self.waiting.entry(connection).or_default();
            // Answers without an id are those of the oldest message.
            let tag = match self.settings.layout {
                Layout::InOrder | Layout::Batch => waiting.front().copied().unwrap_or(tag),
                Layout::WithId | Layout::Unanswered => tag,
            };
            waiting.retain(|of| *of != tag);
            let Some(received) = self.received.remove(&tag) else {
                self.judge.violation(format!("answer: message {tag} is told of twice"));
                continue;
            };
            self.tell(|| {
                let texts: Vec<_> =
                    answer.iter().map(|frame| String::from_utf8_lossy(frame)).collect();
                format!("message {tag} is told: {is_acknowledged}, {texts:?}")
            });
            self.judge_told(&received, is_acknowledged, &answer);
            if self.settings.layout != Layout::Unanswered {
                self.after(0, 30, IngestEvent::Hear { connection, tag });
            }
        }
    }

    fn judge_told(&mut self, received: &Received, is_acknowledged: bool, answer: &[Vec<u8>]) {
        let Received { message, id, is_forbidden } = received;
        if self.settings.layout == Layout::Unanswered {
            if is_acknowledged {
                self.judge.acknowledged(message);
            }
            return;
        }
        let (of, rest) = answer.split_at(usize::from(!id.is_empty()).min(answer.len()));
        let (true, [word, json]) = (of.iter().all(|of| of == id), rest) else {
            return self.judge.violation(format!("answer: {answer:?} answers nothing"));
        };
        let json: Value = serde_json::from_slice(json).unwrap_or_default();
        // What waited at the end is told that it comes too late, whatever it is.
        let is_late = json["code"] == "shutting_down";
        if !is_late && *is_forbidden != (json["code"] == "not_allowed") {
            let what = format!("answer: {json}, and forbidden: {is_forbidden}");
            return self.judge.violation(what);
        }
        self.judge.answered(message, word, &json);
    }

    /// A sender hears what became of a message.
    pub(super) fn hear(&mut self, connection: u64, tag: u64) {
        let sender = self.senders.iter_mut().find(|sender| sender.connection == connection);
        if let Some(sender) = sender {
            sender.unanswered.retain(|(of, _)| *of != tag);
        }
    }

    /// A sender vanishes, and sends what was not answered on another connection.
    pub(super) fn reconnect(&mut self, index: usize) {
        self.connections += 1;
        let connection = self.connections;
        let sender = Sender { connection, unanswered: VecDeque::new() };
        let before = std::mem::replace(&mut self.senders[index], sender);
        self.tell(|| format!("sender {index}: connection {} ends", before.connection));
        if self.settings.layout == Layout::Unanswered {
            return;
        }
        for (_, wish) in before.unanswered {
            self.send_now(index, wish);
        }
    }

    /// Returns true if nobody waits for anything.
    pub(super) fn is_answered(&self) -> bool {
        let is_answered = |sender: &Sender| sender.unanswered.is_empty();
        self.settings.layout == Layout::Unanswered || self.senders.iter().all(is_answered)
    }
}

/// A record as the `batch` envelope has it (docs/envelope.md).
fn put_packed(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let mut body = vec![1, 0, 0, 0];
    body.extend_from_slice(&0_i32.to_le_bytes());
    // The offset, the timestamp and the one before: a sender has none.
    for number in [0_i64, -1, -1] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(&(-1_i32).to_le_bytes());
    body.extend_from_slice(&0_u32.to_le_bytes());
    for field in [key, value] {
        body.extend_from_slice(&(field.len() as u32).to_le_bytes());
        body.extend_from_slice(field);
    }
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
}
