//! `zafka enrol`: enrols a CURVE key at the door of a relay by a token, once or for as long as it
//! runs.
//!
//! Any program that has the key is then let in by the relay, without knowing of tokens.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod answer;
mod schedule;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zafka_sockets::config::EndpointConfig;
use zafka_sockets::{OutboundEvent, OutboundKind, OutboundSocket, Outlet, put_message};
use zafka_zmtp::curve::ClientSide;
use zafka_zmtp::{Mechanism, Token};

use crate::cli::{CommandError, EnrolArgs, UsageError, output_error, token_in};
use crate::config::{key_pair_in, public_key_in};
use crate::login::AnotherKey;
use crate::random::random;
use crate::send::until;
use crate::status_line::StatusLine;
use answer::{DoorMessage, Enrolled, Refused};
use schedule::{Mode, Next, Schedule};

/// Longest wait for room in the queue of the connection.
const ROOM: Duration = Duration::from_secs(1);

/// A key, the token by which it is enrolled, and where.
#[derive(Debug)]
pub struct Enrolment {
    endpoint: EndpointConfig,
    tokens: Tokens,
    mode: Mode,
    /// Time in which the key has to be enrolled for the first time; without an end if `None`.
    patience: Option<Duration>,
}

/// The source of tokens.
#[derive(Debug)]
enum Tokens {
    /// A file, read each time: another program renews it.
    File(PathBuf),
    /// The user's login.
    Login(AnotherKey),
}

impl Tokens {
    async fn next(&mut self) -> Result<Token, String> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                // It may be in a folder of another machine, which does not answer.
                let read = spawn_blocking(move || token_in(&path)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
            Self::Login(login) => login.token().await.map_err(|error| error.to_string()),
        }
    }
}

/// The reason why a key is not enrolled.
#[derive(Debug, thiserror::Error)]
enum EnrolError {
    /// The relay does not take the token.
    #[error("{0}")]
    Refused(String),
    /// There was no answer that settles it.
    #[error("not enrolled within {} s: {reason}", .patience.as_secs_f64())]
    Late { patience: Duration, reason: String },
    /// It is no relay's door.
    #[error("{0}")]
    NoDoor(String),
}

impl Enrolment {
    /// Reads the files that the arguments name.
    ///
    /// # Errors
    /// A file that cannot be used, or no login.
    pub fn new(args: EnrolArgs) -> Result<Self, CommandError> {
        let server = public_key_in(&args.server_key).map_err(UsageError)?.public;
        let keys = key_pair_in(&args.curve_key).map_err(UsageError)?;
        let tokens = match args.token_file {
            Some(path) => {
                token_in(&path).map_err(UsageError)?;
                Tokens::File(path)
            }
            None => Tokens::Login(AnotherKey::of_user()?),
        };
        let side = ClientSide { keys, server, token: None, random };
        let mechanism = Mechanism::CurveClient(Arc::new(side));
        let mode = if args.keep { Mode::Keep } else { Mode::Once };
        Ok(Self {
            endpoint: EndpointConfig { endpoint: args.endpoint, mechanism },
            tokens,
            mode,
            // What is kept may begin before its relay does.
            patience: args.timeout.0.filter(|_| mode == Mode::Once),
        })
    }
}

/// Enrols a key; keeps it enrolled until `stop` is done, if that is asked for.
///
/// # Errors
/// The key is not enrolled, or standard output cannot be written to.
pub async fn run(enrolment: Enrolment, stop: impl Future<Output = ()>) -> Result<(), CommandError> {
    let mut socket = OutboundSocket::new(OutboundKind::Dealer, enrolment.endpoint.clone());
    let now = Instant::now();
    let mut enrolling = Enrolling {
        schedule: Schedule::new(enrolment.mode, now),
        outlet: None,
        report: EnrolReport::new(),
        enrolment,
    };
    let give_up = enrolling.enrolment.patience.and_then(|patience| now.checked_add(patience));
    tokio::pin!(stop);
    loop {
        // The token may take its time: whoever gives it is another program, or a provider.
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = until(give_up) => return Err(enrolling.late().into()),
            () = enrolling.ask() => {}
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            event = socket.next() => if enrolling.handle_event(event)? {
                return Ok(());
            },
            () = until(enrolling.schedule.poll_timeout()) => {}
            () = until(give_up) => return Err(enrolling.late().into()),
        }
    }
}

/// An enrolment under way.
struct Enrolling {
    enrolment: Enrolment,
    schedule: Schedule,
    /// The way into the present connection.
    outlet: Option<Outlet>,
    report: EnrolReport,
}

impl Enrolling {
    /// The error that its time is over.
    fn late(&mut self) -> EnrolError {
        let patience = self.enrolment.patience.unwrap_or_default();
        EnrolError::Late { patience, reason: self.report.last() }
    }

    /// Sends the token, if it is time.
    async fn ask(&mut self) {
        let now = Instant::now();
        if self.schedule.is_overdue(now) {
            self.report.note(&format!("{}: no answer", self.enrolment.endpoint.endpoint));
        }
        let Some(id) = self.schedule.poll_command(now) else { return };
        let token = match self.enrolment.tokens.next().await {
            Ok(token) => token,
            Err(why) => {
                self.report.note(&why);
                return self.schedule.handle_unsent(Instant::now());
            }
        };
        let token = String::from_utf8_lossy(token.expose()).into_owned();
        let body = json!({ "id": id, "token": token }).to_string();
        let mut chunk = Vec::new();
        put_message(&mut chunk, &[answer::WORD, b"ENROL", body.as_bytes()]);
        let Some(outlet) = &self.outlet else { return };
        match timeout(ROOM, outlet.reserve()).await {
            Ok(Some(slot)) => {
                slot.send(chunk);
                self.schedule.handle_sent(Instant::now());
            }
            // The connection is lost; why, comes as an event.
            Ok(None) => self.schedule.handle_disconnected(),
            // The relay has not taken the commands before it.
            Err(_) => self.schedule.handle_unsent(Instant::now()),
        }
    }

    /// Takes an event. Returns true if there is nothing more to do.
    fn handle_event(&mut self, event: OutboundEvent) -> Result<bool, CommandError> {
        let (now, endpoint) = (Instant::now(), &self.enrolment.endpoint.endpoint);
        match event {
            OutboundEvent::Connected(outlet) => {
                self.outlet = Some(outlet);
                self.schedule.handle_connected(now);
            }
            OutboundEvent::Disconnected(reason) => {
                self.outlet = None;
                self.schedule.handle_disconnected();
                self.report.note(&format!("{endpoint}: {reason}"));
            }
            OutboundEvent::Message(frames) => {
                let message = answer::read(&frames);
                let message =
                    message.map_err(|why| EnrolError::NoDoor(format!("{endpoint}: {why}")))?;
                return self.handle_message(message, now);
            }
            OutboundEvent::Written | OutboundEvent::Finished => {}
        }
        Ok(false)
    }

    fn handle_message(&mut self, message: DoorMessage, now: Instant) -> Result<bool, CommandError> {
        match message {
            DoorMessage::Enrolled(enrolled) => {
                if self.schedule.handle_enrolled(&enrolled, now) {
                    self.report.enrolled(&enrolled)?;
                    return Ok(self.enrolment.mode == Mode::Once);
                }
            }
            DoorMessage::Refused(refused) => match self.schedule.handle_refused(&refused, now) {
                Some(Next::End) => {
                    self.report.refused(&refused)?;
                    return Err(EnrolError::Refused(refused.to_string()).into());
                }
                Some(Next::Again) => {
                    self.report.refused(&refused)?;
                    self.report.note(&refused.to_string());
                }
                None => {}
            },
            DoorMessage::EndsSoon => self.schedule.handle_ends_soon(now),
        }
        Ok(false)
    }
}

/// Prints leases and refusals: JSON lines for programs, lines for people.
struct EnrolReport {
    /// True if standard output is for a program.
    is_json: bool,
    notes: StatusLine,
    /// The last reason why it goes not on.
    last: String,
    /// The last lease or refusal that was printed: the same is printed once.
    told: Option<Map<String, Value>>,
}

impl EnrolReport {
    fn new() -> Self {
        let is_json = !io::stdout().is_terminal();
        Self { is_json, notes: StatusLine::new(), last: "no answer".to_owned(), told: None }
    }

    fn last(&mut self) -> String {
        std::mem::take(&mut self.last)
    }

    fn note(&mut self, text: &str) {
        text.clone_into(&mut self.last);
        self.notes.note(text, text);
    }

    fn enrolled(&mut self, enrolled: &Enrolled) -> io::Result<()> {
        // From now on each failure is news again.
        self.notes.forget_notes();
        self.tell("enrolled", &enrolled.fields, &enrolled.to_string())
    }

    fn refused(&mut self, refused: &Refused) -> io::Result<()> {
        if self.is_json { self.tell("refused", &refused.fields, "") } else { Ok(()) }
    }

    fn tell(&mut self, event: &str, fields: &Map<String, Value>, text: &str) -> io::Result<()> {
        let mut line = Map::from_iter([("event".to_owned(), json!(event))]);
        line.extend(fields.clone());
        // What is different each time is no news by itself.
        let mut news = line.clone();
        for name in ["expires_in", "reference", "retry_after"] {
            news.remove(name);
        }
        if self.told.as_ref() == Some(&news) {
            return Ok(());
        }
        self.told = Some(news);
        let text = if self.is_json { Value::Object(line).to_string() } else { text.to_owned() };
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(output_error)
    }
}
