//! From a message's fields to a record's topic, partition, key and headers. Pure.
//!
//! The frame's topic is renamed, then put into the template; the allow-list judges the result.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use regex::Regex;
use zafka_envelope::{InboundHeader, InboundRecord};
use zafka_kafka::config::TopicSelector;

/// The longest name of a Kafka topic in bytes.
const TOPIC_MAX: usize = 249;
/// Headers with names that begin so are the relay's own.
const OWN_HEADERS: &[u8] = b"zafka.";

/// How a route maps messages to records.
#[derive(Clone, Debug)]
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
    /// Whether to add headers that tell where a record came from (`zafka.route` and others).
    pub stamp: bool,
}

/// One change of a topic's name.
#[derive(Clone, Debug)]
pub struct Rename {
    /// The names it changes; a pattern has to match the whole name.
    pub from: TopicSelector,
    /// The new name, with `{1}` to `{9}` for the pattern's groups.
    pub to: Template,
}

/// Text with fields in braces; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Key,
    Header(String),
    Group(usize),
}

/// The fields that a template may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// `{topic}`, `{key}`, `{header.NAME}`.
    OfMessage,
    /// `{1}` to `{9}`, up to this number.
    Groups(usize),
}

/// A mistake in a template: what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("a brace without its partner at character {0}; for the brace itself write it twice")]
    Brace(usize),
    /// A field that does not exist here.
    #[error("unknown field `{found}`; allowed: {allowed}")]
    Field {
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Where a record goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Vec<u8>>,
}

/// Why a message is not to be written.
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
    /// Whether it is a matter of rights, not of the message's form.
    pub(crate) fn is_not_allowed(&self) -> bool {
        matches!(self, Self::NotAllowed(_))
    }
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str, fields: Fields) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        let at = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
        while let Some(brace) = rest.find(['{', '}']) {
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let inside = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside.filter(|(name, _)| !name.contains('{')) else {
                return Err(TemplateError::Brace(at(rest)));
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece(name, fields)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// The template of one field, `{key}`.
    pub fn key() -> Self {
        Self(vec![Piece::Key])
    }

    /// The template of one field, `{topic}`.
    pub fn topic() -> Self {
        Self(vec![Piece::Topic])
    }

    /// Whether it is text alone.
    pub fn is_constant(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Whether it takes the message's topic.
    pub fn has_topic(&self) -> bool {
        self.0.contains(&Piece::Topic)
    }

    /// Its text, if it is text alone.
    pub fn constant(&self) -> Option<String> {
        self.is_constant().then(|| self.0.iter().map(Piece::text).collect())
    }
}

impl Piece {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
}

fn piece(name: &str, fields: Fields) -> Result<Piece, TemplateError> {
    let fail = |allowed: &str| {
        Err(TemplateError::Field { found: name.to_owned(), allowed: allowed.to_owned() })
    };
    match fields {
        Fields::OfMessage => match (name, name.strip_prefix("header.")) {
            ("topic", _) => Ok(Piece::Topic),
            ("key", _) => Ok(Piece::Key),
            (_, Some(header)) if !header.is_empty() => Ok(Piece::Header(header.to_owned())),
            _ => fail("topic, key, header.NAME"),
        },
        Fields::Groups(0) => fail("none: the name is no pattern, or its pattern has no group"),
        Fields::Groups(groups) => match name.parse() {
            Ok(group) if (1..=groups.min(9)).contains(&group) => Ok(Piece::Group(group)),
            _ => fail(&format!("1 to {}", groups.min(9))),
        },
    }
}

impl Mapping {
    /// Finds where a record of a message goes, and checks its headers and timestamp.
    pub(crate) fn target(&self, record: &InboundRecord<'_>) -> Result<Target, MappingError> {
        if let Some(ms) = record.timestamp.filter(|ms| *ms < -1) {
            return Err(MappingError::Timestamp(ms));
        }
        for header in &record.headers {
            check_header(header)?;
        }
        let topic = self.topic(record)?;
        let partition = match &self.partition {
            None => None,
            Some(template) => partition(&self.bytes(template, record)?.unwrap_or_default())?,
        };
        let key = match &self.key {
            None => None,
            Some(template) => self.bytes(template, record)?,
        };
        Ok(Target { topic, partition, key })
    }

    /// The headers that are added to a record.
    pub(crate) fn added_headers(
        &self,
        record: &InboundRecord<'_>,
    ) -> Vec<(String, Option<Vec<u8>>)> {
        let header = |(name, template): &(String, Template)| {
            (name.clone(), self.bytes(template, record).ok().flatten())
        };
        self.headers.iter().map(header).collect()
    }

    fn topic(&self, record: &InboundRecord<'_>) -> Result<String, MappingError> {
        let mut bytes = Vec::new();
        for piece in &self.topic.0 {
            match piece {
                Piece::Topic => {
                    let topic = record.topic.as_deref().ok_or(MappingError::NoTopic)?;
                    bytes.extend_from_slice(self.renamed(topic).as_bytes());
                }
                piece => bytes.extend_from_slice(&required(piece, record)?),
            }
        }
        let topic = String::from_utf8(bytes);
        let topic = topic.map_err(|error| MappingError::BadTopic(shown(error.as_bytes())))?;
        if !is_legal(&topic) {
            return Err(MappingError::BadTopic(shown(topic.as_bytes())));
        }
        // Internal topics are told from others no more than topics that do not exist.
        if topic.starts_with("__") || !self.allows(&topic) {
            return Err(MappingError::NotAllowed(topic));
        }
        Ok(topic)
    }

    fn allows(&self, topic: &str) -> bool {
        let matches = |selector: &TopicSelector| match selector {
            TopicSelector::Name(name) => name == topic,
            TopicSelector::Pattern(pattern) => is_whole_match(pattern, topic),
        };
        self.allowed.is_empty() || self.allowed.iter().any(matches)
    }

    fn renamed<'a>(&self, topic: &'a str) -> Cow<'a, str> {
        let change = |rename: &Rename| rename.apply(topic);
        self.rename.iter().find_map(change).map_or(Cow::Borrowed(topic), Cow::Owned)
    }

    /// The bytes of a template; a template of one field passes null through, others take it as
    /// empty.
    fn bytes(
        &self,
        template: &Template,
        record: &InboundRecord<'_>,
    ) -> Result<Option<Vec<u8>>, MappingError> {
        if let [piece] = &template.0[..] {
            return Ok(field(piece, record).map(Cow::into_owned));
        }
        let fields = template.0.iter().map(|piece| field(piece, record).unwrap_or_default());
        Ok(Some(fields.fold(Vec::new(), |mut bytes, field| {
            bytes.extend_from_slice(&field);
            bytes
        })))
    }
}

impl Rename {
    /// The new name of a topic, if this change is for it.
    fn apply(&self, topic: &str) -> Option<String> {
        let pattern = match &self.from {
            TopicSelector::Name(name) => {
                return (name == topic).then(|| self.to.constant().unwrap_or_default());
            }
            TopicSelector::Pattern(pattern) => pattern,
        };
        let groups = pattern.captures(topic).filter(|groups| &groups[0] == topic)?;
        let text = |piece: &Piece| match piece {
            Piece::Group(group) => groups.get(*group).map_or("", |group| group.as_str()).to_owned(),
            piece => piece.text().to_owned(),
        };
        Some(self.to.0.iter().map(text).collect())
    }
}

/// Whether a pattern matches all of a text.
fn is_whole_match(pattern: &Regex, text: &str) -> bool {
    pattern.find(text).is_some_and(|found| found.len() == text.len())
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

/// Whether Kafka takes it for the name of a topic.
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
