//! Reports while messages are sent: JSON lines for programs, a status line for people.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::answer::Failure;
use super::latency::Latencies;
use super::window::{Answers, Counts, Outcome, Settled};
use crate::cli::output_error;
use crate::status_line::StatusLine;

/// Characters of the bar.
const BAR: usize = 20;

/// Prints answers on standard output, unless that is a terminal, and the rest on standard error.
#[derive(Debug)]
pub(super) struct Report {
    /// True if standard output is for a program.
    is_json: bool,
    /// Word for a message that has arrived.
    arrived: &'static str,
    status_line: StatusLine,
    out: Vec<u8>,
    latencies: Latencies,
    /// Latencies since the last tick.
    lately: Latencies,
    started: Instant,
    last_tick: Instant,
    acknowledged_at_tick: u64,
}

impl Report {
    pub(super) fn new(answers: Answers) -> Self {
        let now = Instant::now();
        Self {
            is_json: !io::stdout().is_terminal(),
            arrived: if answers == Answers::None { "written" } else { "acknowledged" },
            status_line: StatusLine::new(),
            out: Vec::new(),
            latencies: Latencies::new(),
            lately: Latencies::new(),
            started: now,
            last_tick: now,
            acknowledged_at_tick: 0,
        }
    }

    /// The word for a message that has arrived.
    pub(super) fn arrived(&self) -> &'static str {
        self.arrived
    }

    /// Takes note of a message that is under way no more; to be shown with [`Self::flush`].
    pub(super) fn settled(&mut self, settled: &Settled) {
        let Settled { number, latency, outcome } = settled;
        match outcome {
            Outcome::Written => {}
            Outcome::Acknowledged(place) => {
                self.latencies.add(*latency);
                self.lately.add(*latency);
                self.answer(*number, *latency, place.0.clone());
            }
            Outcome::Refused(failure) => {
                let fields = Map::from_iter([("error".to_owned(), json!(failure.fields))]);
                self.answer(*number, *latency, fields);
                let text = failure.to_string();
                self.status_line.note(&text, &format!("message {number} is refused: {text}"));
            }
        }
    }

    /// Takes note of a message of which nothing is known.
    pub(super) fn unsettled(&mut self, number: u64) {
        if self.is_json {
            self.put(&json!({"message": number, "unanswered": true}));
        }
    }

    fn answer(&mut self, number: u64, latency: Duration, fields: Map<String, Value>) {
        if self.is_json {
            let mut line = Map::from_iter([("message".to_owned(), json!(number))]);
            line.extend(fields);
            line.insert("latency_us".to_owned(), micros(latency));
            self.put(&Value::Object(line));
        }
    }

    fn put(&mut self, line: &Value) {
        // A number, a text and a map always serialize.
        let _ = writeln!(self.out, "{line}");
    }

    /// Says that a connection is there; from then on each failure is news again.
    pub(super) fn connected(&mut self, endpoint: &str) {
        self.status_line.forget_notes();
        self.note(&format!("connected to {endpoint}"));
    }

    /// Says that a message was not taken now.
    pub(super) fn later(&mut self, failure: &Failure) {
        self.note(&format!("{failure}; it is sent again"));
    }

    /// Says something; the same thing is said once for each connection.
    pub(super) fn note(&mut self, text: &str) {
        self.status_line.note(text, text);
    }

    /// Writes what was put.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out).and_then(|()| stdout.flush()).map_err(output_error)
    }

    /// Brings the status line up to date, once a second. `done` is the share of the input that is
    /// under way or settled, if that is known.
    pub(super) fn show_status(&mut self, counts: Counts, under_way: u64, done: Option<f64>) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.last_tick).as_secs_f64();
        let rate = if elapsed > 0.0 {
            (counts.acknowledged - self.acknowledged_at_tick) as f64 / elapsed
        } else {
            0.0
        };
        (self.last_tick, self.acknowledged_at_tick) = (now, counts.acknowledged);
        let lately = std::mem::replace(&mut self.lately, Latencies::new());
        let bar = done.map(bar).unwrap_or_default();
        let text = format!(
            "{bar}{} {}, {} refused, {under_way} under way, {rate:.0}/s{}",
            counts.acknowledged,
            self.arrived,
            counts.refused,
            latency_text(&lately),
        );
        self.status_line.show(&text);
    }

    /// Leaves a summary behind.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn finish(&mut self, counts: Counts, under_way: u64) -> io::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = if seconds > 0.0 { counts.acknowledged as f64 / seconds } else { 0.0 };
        if self.is_json {
            let latency = self.latencies.max().map(|max| {
                let at = |share| self.latencies.at(share).map_or(Value::Null, micros);
                json!({"p50": at(0.5), "p99": at(0.99), "max": micros(max)})
            });
            let mut summary = json!({
                "messages": counts.taken,
                "refused": counts.refused,
                "unanswered": under_way,
                "resent": counts.resent,
                "seconds": (seconds * 1e6).round() / 1e6,
                "per_second": rate.round(),
                "latency_us": latency,
            });
            summary[self.arrived] = json!(counts.acknowledged);
            self.put(&json!({ "summary": summary }));
            self.flush()?;
        }
        let text = format!(
            "{} messages: {} {}, {} refused, {under_way} unanswered, {} sent again, \
             in {seconds:.1} s, {rate:.0}/s{}",
            counts.taken,
            counts.acknowledged,
            self.arrived,
            counts.refused,
            counts.resent,
            latency_text(&self.latencies),
        );
        self.status_line.say(&text);
        Ok(())
    }
}

fn micros(latency: Duration) -> Value {
    json!(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))
}

fn latency_text(latencies: &Latencies) -> String {
    match (latencies.at(0.5), latencies.at(0.99)) {
        (Some(p50), Some(p99)) => {
            let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
            format!(", p50 {:.1} ms, p99 {:.1} ms", ms(p50), ms(p99))
        }
        _ => String::new(),
    }
}

/// A bar of which this share is full.
fn bar(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = (share * BAR as f64) as usize;
    let (full_text, rest) = ("=".repeat(full), " ".repeat(BAR - full));
    format!("[{full_text}{rest}] {:.0} % ", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(bar(0.0), "[                    ] 0 % ");
        assert_eq!(bar(0.5), "[==========          ] 50 % ");
        assert_eq!(bar(1.5), "[====================] 100 % ");
    }

    #[test]
    fn a_line_for_each_answer() {
        let mut report = Report::new(Answers::ById);
        report.is_json = true;
        let map = |value: Value| value.as_object().unwrap().clone();
        let place = super::super::answer::Place(map(json!({"topic": "t", "offset": 4})));
        let latency = Duration::from_micros(250);
        report.settled(&Settled { number: 1, latency, outcome: Outcome::Acknowledged(place) });
        report.unsettled(2);
        let lines = String::from_utf8(std::mem::take(&mut report.out)).unwrap();
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines,
            [
                json!({"message": 1, "topic": "t", "offset": 4, "latency_us": 250}),
                json!({"message": 2, "unanswered": true}),
            ]
        );
        assert_eq!(latency_text(&report.latencies), ", p50 0.2 ms, p99 0.2 ms");
    }
}
