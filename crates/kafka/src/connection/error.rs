//! Errors of a connection, and of the requests on it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

use super::AnswerError;
use crate::error_text::normalize;
use crate::reason::{Consequence, Reason};

/// The longest text of a broker that is shown, in characters.
const LONGEST: usize = 500;

/// The reason why a connection could not be made, or can no longer be used. The same fault has the
/// same text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub(crate) struct ConnectionError {
    address: String,
    reason: String,
    is_refusal: bool,
}

impl ConnectionError {
    pub(crate) fn new(address: &str, reason: &str) -> Self {
        let (address, reason) = (address.to_owned(), normalize(&line(reason)));
        Self { address, reason, is_refusal: false }
    }

    /// The broker does not take who this client says it is.
    pub(crate) fn refused(self) -> Self {
        Self { is_refusal: true, ..self }
    }

    /// Returns true if the broker does not take who this client says it is.
    pub(crate) fn is_refusal(&self) -> bool {
        self.is_refusal
    }
}

/// The reason of each server that cannot be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub(crate) struct Refusals(pub(super) Vec<ConnectionError>);

impl Refusals {
    /// Returns true if every server has said that it does not take who this client says it is.
    pub(crate) fn are_unanimous(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(ConnectionError::is_refusal)
    }
}

/// The reason why a request to a broker is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// No connection to it, or one that broke.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It does not have the request in a version of ours.
    #[error("{broker}: too old for our own {}", needed(*.api))]
    TooOld { broker: String, api: ApiKey },
    /// No answer in time.
    #[error("{broker}: no answer to a {}", name(*.api))]
    Silent { broker: String, api: ApiKey },
    /// An answer has begun, and comes no further.
    #[error("{broker}: an answer to a {} stopped half way", name(*.api))]
    Stopped { broker: String, api: ApiKey },
    /// Its answer cannot be read.
    #[error("{broker}: {error}")]
    Answer { broker: String, error: AnswerError },
    /// Its answer is an error of the whole request.
    #[error("{broker}: {api:?}: {error}")]
    Refused { broker: String, api: ApiKey, error: ResponseError },
}

impl Reason for RequestError {
    /// A broker does not become newer; anything else passes, or another broker does better.
    fn consequence(&self) -> Consequence {
        match self {
            Self::TooOld { .. } => Consequence::Stop,
            _ => Consequence::Retry,
        }
    }
}

/// Returns the name of a request, and the first version of it that is ours.
fn needed(api: ApiKey) -> String {
    match api {
        ApiKey::Fetch => "fetch requests (version 12 of Kafka 2.7)".to_owned(),
        ApiKey::Metadata => "metadata requests (version 9 of Kafka 2.4)".to_owned(),
        ApiKey::Produce => "produce requests (version 9 of Kafka 2.8)".to_owned(),
        api => format!("{api:?} requests"),
    }
}

/// Returns the name of one request.
fn name(api: ApiKey) -> String {
    match api {
        ApiKey::Fetch => "fetch".to_owned(),
        ApiKey::Metadata => "metadata request".to_owned(),
        ApiKey::Produce => "produce request".to_owned(),
        api => format!("{api:?} request"),
    }
}

/// One line of a length that a log can have: brokers send what they like.
fn line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_s_text_is_one_line_of_a_bounded_length() {
        for (reason, told) in [
            ("no", "a:1: no".to_owned()),
            ("no\n2026 WARN forged\u{1b}[2J", "a:1: no 2026 WARN forged [2J".to_owned()),
            (&"\u{e4}".repeat(500), format!("a:1: {}", "\u{e4}".repeat(500))),
            (&"\u{e4}".repeat(501), format!("a:1: {}...", "\u{e4}".repeat(500))),
        ] {
            assert_eq!(ConnectionError::new("a:1", reason).to_string(), told);
        }
    }
}
