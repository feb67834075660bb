//! The mapping of a message's fields to a record's topic, partition, key and headers. Pure.
//!
//! The frame's topic is renamed, then put into the template; the allow-list judges the result.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use zafka_envelope::{InboundHeader, InboundRecord};
use zafka_kafka::config::TopicSelector;

use crate::rename::{Rename, is_whole_match, renamed};
use crate::template::{Piece, Template};

/// The longest name of a Kafka topic in bytes.
const TOPIC_MAX: usize = 249;
/// Headers with names that begin so are the relay's own.
const OWN_HEADERS: &[u8] = b"zafka.";

/// The way a route maps messages to records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The topic.
    pub topic: Template,
    /// Changes of the frame's topic, made before the template: the first that matches.
    pub rename: Vec<Rename>,
    /// The topics that may be written to; any if empty, which only a template without fields may
    /// have.
    pub allowed: Vec<TopicSelector>,
    /// The key; null if `None`.
    pub key: Option<Template>,
    /// The partition as a decimal number; the key decides if `None` or if the text is empty.
    pub partition: Option<Template>,
    /// Headers to add, after those of the message.
    pub headers: Vec<(String, Template)>,
    /// True if headers are added that name a record's origin (`zafka.route` and others).
    pub stamp: bool,
}

/// The topic and partition of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Cow<'a, [u8]>>,
}

/// The reason why a message is not to be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MappingError {
    #[error("the message carries no topic")]
    NoTopic,
    #[error("header {0:?} is missing, which the topic or partition is made of")]
    NoHeader(String),
    #[error("topic \"{0}\" is not one that may be written to")]
    NotAllowed(String),
    #[error(
        "{0:?} is not the name of a topic: 1 to {TOPIC_MAX} of a-z, A-Z, 0-9, '.', '_' and '-'"
    )]
    BadTopic(String),
    #[error("partition \"{0}\" is not a number from 0 to 2147483647")]
    BadPartition(String),
    #[error("header \"{0}\": names that begin with \"zafka.\" are the relay's own")]
    OwnHeader(String),
    #[error("the name of a header is not UTF-8: \"{0}\"")]
    HeaderName(String),
    #[error("timestamp {0} is negative")]
    Timestamp(i64),
}

impl MappingError {
    /// Returns true if it is a matter of rights, not of the message's form.
    pub(crate) fn is_not_allowed(&self) -> bool {
        matches!(self, Self::NotAllowed(_))
    }
}

impl Mapping {
    /// Finds the topic and partition of a message's record, and checks its headers and timestamp.
    /// `known` is a topic that was found before, so that it need not be judged once more.
    pub(crate) fn target<'a>(
        &'a self,
        record: &'a InboundRecord<'_>,
        known: Option<&str>,
    ) -> Result<Target<'a>, MappingError> {
        if let Some(ms) = record.timestamp.filter(|ms| *ms < -1) {
            return Err(MappingError::Timestamp(ms));
        }
        for header in &record.headers {
            check_header(header)?;
        }
        let topic = self.topic(record, known)?;
        let partition = match &self.partition {
            None => None,
            Some(template) => partition(&Self::bytes(template, record).unwrap_or_default())?,
        };
        let key = match &self.key {
            None => None,
            Some(template) => Self::bytes(template, record),
        };
        Ok(Target { topic, partition, key })
    }

    /// The topic, if a message's own fields make nothing of its record but the value: it is the
    /// same for all of them, with no partition, header or other key than theirs.
    pub(crate) fn topic_alone(&self) -> Option<&str> {
        let [Piece::Text(topic)] = self.topic.pieces() else { return None };
        let is_key_theirs = self.key.as_ref().is_none_or(|key| key.pieces() == [Piece::Key]);
        let adds = self.stamp || self.partition.is_some() || !self.headers.is_empty();
        (is_key_theirs && !adds).then_some(topic)
    }

    /// The headers that are added to a record.
    pub(crate) fn added_headers(
        &self,
        record: &InboundRecord<'_>,
    ) -> Vec<(String, Option<Vec<u8>>)> {
        if self.headers.is_empty() {
            return Vec::new();
        }
        let header = |(name, template): &(String, Template)| {
            (name.clone(), Self::bytes(template, record).map(Cow::into_owned))
        };
        self.headers.iter().map(header).collect()
    }

    fn topic<'a>(
        &'a self,
        record: &'a InboundRecord<'_>,
        known: Option<&str>,
    ) -> Result<Cow<'a, str>, MappingError> {
        let topic = match self.topic.pieces() {
            [Piece::Text(text)] if known == Some(text) => return Ok(Cow::Borrowed(text)),
            [piece] => self.topic_piece(piece, record)?,
            pieces => {
                let mut bytes = Vec::new();
                for piece in pieces {
                    bytes.extend_from_slice(&self.topic_piece(piece, record)?);
                }
                Cow::Owned(bytes)
            }
        };
        let bad = |bytes: &[u8]| MappingError::BadTopic(shown(bytes));
        let topic = match topic {
            Cow::Borrowed(bytes) => {
                Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| bad(bytes))?)
            }
            Cow::Owned(bytes) => {
                Cow::Owned(String::from_utf8(bytes).map_err(|error| bad(error.as_bytes()))?)
            }
        };
        if known == Some(&*topic) {
            return Ok(topic);
        }
        if !is_legal(&topic) {
            return Err(bad(topic.as_bytes()));
        }
        // The answer does not reveal internal topics, nor which topics exist.
        if topic.starts_with("__") || !self.allows(&topic) {
            return Err(MappingError::NotAllowed(topic.into_owned()));
        }
        Ok(topic)
    }

    fn topic_piece<'a>(
        &self,
        piece: &'a Piece,
        record: &'a InboundRecord<'_>,
    ) -> Result<Cow<'a, [u8]>, MappingError> {
        let Piece::Topic = piece else { return required(piece, record) };
        let topic = record.topic.as_deref().ok_or(MappingError::NoTopic)?;
        Ok(match renamed(&self.rename, topic) {
            Cow::Borrowed(topic) => Cow::Borrowed(topic.as_bytes()),
            Cow::Owned(topic) => Cow::Owned(topic.into_bytes()),
        })
    }

    /// Returns true if the allow-list permits writing to a topic.
    pub fn allows(&self, topic: &str) -> bool {
        let matches = |selector: &TopicSelector| match selector {
            TopicSelector::Name(name) => name == topic,
            TopicSelector::Pattern(pattern) => is_whole_match(pattern, topic),
        };
        self.allowed.is_empty() || self.allowed.iter().any(matches)
    }

    /// The bytes of a template; a template of one field passes null through, others take it as
    /// empty.
    fn bytes<'a>(template: &'a Template, record: &'a InboundRecord<'_>) -> Option<Cow<'a, [u8]>> {
        if let [piece] = template.pieces() {
            return field(piece, record);
        }
        let fields = template.pieces().iter().map(|piece| field(piece, record).unwrap_or_default());
        Some(Cow::Owned(fields.fold(Vec::new(), |mut bytes, field| {
            bytes.extend_from_slice(&field);
            bytes
        })))
    }
}

/// The bytes of a field; `None` is null.
fn field<'a>(piece: &'a Piece, record: &'a InboundRecord<'_>) -> Option<Cow<'a, [u8]>> {
    match piece {
        Piece::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        Piece::Topic => record.topic.as_deref().map(|topic| Cow::Borrowed(topic.as_bytes())),
        Piece::Key => record.key.as_deref().map(Cow::Borrowed),
        Piece::Header(name) => {
            let last = record.headers.iter().rfind(|header| *header.name == *name.as_bytes());
            last.and_then(|header| header.value.as_deref()).map(Cow::Borrowed)
        }
        Piece::Group(_) => None,
    }
}

fn required<'a>(
    piece: &'a Piece,
    record: &'a InboundRecord<'_>,
) -> Result<Cow<'a, [u8]>, MappingError> {
    match (field(piece, record), piece) {
        (Some(bytes), _) => Ok(bytes),
        (None, Piece::Header(name)) => Err(MappingError::NoHeader(name.clone())),
        (None, _) => Ok(Cow::Borrowed(b"")),
    }
}

fn partition(text: &[u8]) -> Result<Option<i32>, MappingError> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let number = number.filter(|number| *number >= 0 && text[0].is_ascii_digit());
    number.map(Some).ok_or_else(|| MappingError::BadPartition(shown(text)))
}

fn check_header(header: &InboundHeader<'_>) -> Result<(), MappingError> {
    if header.name.starts_with(OWN_HEADERS) {
        return Err(MappingError::OwnHeader(shown(&header.name)));
    }
    match std::str::from_utf8(&header.name) {
        Ok(_) => Ok(()),
        Err(_) => Err(MappingError::HeaderName(shown(&header.name))),
    }
}

/// Returns true if Kafka takes it for the name of a topic.
pub fn is_legal(topic: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=TOPIC_MAX).contains(&topic.len())
        && topic.bytes().all(legal)
        && topic != "."
        && topic != ".."
}

fn shown(bytes: &[u8]) -> String {
    let cut = if bytes.len() > TOPIC_MAX { "..." } else { "" };
    format!("{}{cut}", bytes[..bytes.len().min(TOPIC_MAX)].escape_ascii())
}
