//! `zafka tap`: subscribe to an endpoint and show what comes.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod gaps;
mod layout;
mod message;
mod print;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use zafka_sockets::config::EndpointConfig;
use zafka_sockets::{Endpoint, SubEvent, SubSocket};

pub(crate) use layout::Layout;

use crate::cli::output_error;
use crate::status_line::StatusLine;
use crate::terminal::takes_color;
use gaps::Gaps;
use print::Style;

/// Settings of `zafka tap`.
#[derive(Clone, Debug)]
pub(crate) struct TapConfig {
    /// The endpoint to subscribe at.
    pub(crate) endpoint: EndpointConfig,
    /// Prefixes of routing frames; one that is empty means everything.
    pub(crate) prefixes: Vec<Vec<u8>>,
    /// End after so many messages.
    pub(crate) count: Option<u64>,
    /// The layout of the messages.
    pub(crate) layout: Layout,
}

/// Shows messages until `count` is reached or `stop` is done.
///
/// # Errors
/// Standard output cannot be written to.
pub(crate) async fn run(config: TapConfig, stop: impl Future<Output = ()>) -> io::Result<()> {
    let mut socket = SubSocket::new(config.endpoint.clone(), config.prefixes.clone());
    let mut viewer = Viewer::new(config.layout, config.count, &config.prefixes);
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(stop);
    while !viewer.is_done() {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = tick.tick() => viewer.show_status(),
            event = socket.next() => match event {
                SubEvent::Message(frames) => viewer.show(frames)?,
                SubEvent::Connected => viewer.connected(&config.endpoint.endpoint),
                SubEvent::Disconnected(reason) => {
                    viewer.note(&format!("{}: {reason}", config.endpoint));
                }
            },
        }
    }
    viewer.finish();
    Ok(())
}

/// Prints messages to standard output, and notes and a status line to standard error.
#[derive(Debug)]
pub(crate) struct Viewer {
    layout: Layout,
    count: Option<u64>,
    style: Style,
    status_line: StatusLine,
    messages: u64,
    messages_at_tick: u64,
    first_message: Option<Instant>,
    last_tick: Instant,
    rate: f64,
    gaps: Gaps,
}

impl Viewer {
    /// Makes a printer for the messages that `prefixes` let through.
    pub(crate) fn new(layout: Layout, count: Option<u64>, prefixes: &[Vec<u8>]) -> Self {
        let style = match (io::stdout().is_terminal(), takes_color(&io::stdout())) {
            (false, _) => Style::Json,
            (true, true) => Style::Color,
            (true, false) => Style::Plain,
        };
        Self {
            layout,
            count,
            style,
            status_line: StatusLine::new(),
            messages: 0,
            messages_at_tick: 0,
            first_message: None,
            last_tick: Instant::now(),
            rate: 0.0,
            gaps: Gaps::new(prefixes),
        }
    }

    /// Prints for people, also if standard output is no terminal.
    pub(crate) fn readable(mut self) -> Self {
        if self.style == Style::Json {
            self.style = Style::Plain;
        }
        self
    }

    pub(crate) fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.messages >= count)
    }

    /// Prints a message.
    pub(crate) fn show(&mut self, frames: Vec<bytes::Bytes>) -> io::Result<()> {
        let routing = frames.first().cloned().unwrap_or_default();
        let content = message::read(&self.layout, frames);
        self.gaps.see(&routing, &content);
        self.messages += 1;
        self.first_message.get_or_insert_with(Instant::now);
        self.status_line.clear();
        let mut out = io::stdout().lock();
        for line in print::lines(&content, self.style) {
            writeln!(out, "{line}").map_err(output_error)?;
        }
        out.flush().map_err(output_error)
    }

    /// Says that the endpoint is reached; from then on each failure is news again.
    fn connected(&mut self, endpoint: &Endpoint) {
        self.status_line.forget_notes();
        self.note(&format!("connected to {endpoint}"));
    }

    /// Says something beside the messages; the same thing is said once for each connection.
    pub(crate) fn note(&mut self, text: &str) {
        self.status_line.note(text, text);
    }

    /// Brings the status line up to date, once a second.
    pub(crate) fn show_status(&mut self) {
        let elapsed = self.last_tick.elapsed().as_secs_f64();
        if elapsed > 0.0 {
            self.rate = (self.messages - self.messages_at_tick) as f64 / elapsed;
        }
        self.last_tick = Instant::now();
        self.messages_at_tick = self.messages;
        self.status_line.show(&self.status());
    }

    /// Leaves a summary behind: the rate is then that of the whole time since the first message.
    pub(crate) fn finish(&mut self) {
        // What came within a second is no rate to go by: it counts as one second.
        let elapsed =
            self.first_message.map_or(1.0, |first| first.elapsed().as_secs_f64().max(1.0));
        self.rate = self.messages as f64 / elapsed;
        self.status_line.say(&self.status());
    }

    fn status(&self) -> String {
        let gaps = self
            .gaps
            .found()
            .map_or_else(|| "gaps unknown".to_owned(), |found| format!("{found} gaps"));
        format!("{} messages, {:.0}/s, {gaps}", self.messages, self.rate)
    }
}
