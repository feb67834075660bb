//! A case to measure: a relay, its sink, and its input.

use serde::{Deserialize, Serialize};

/// A topic with records in it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its records.
    pub records: u64,
}

/// A preset of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Topic, metadata, key, value.
    Json,
    /// Topic, packed record.
    Packed,
    /// Topic, packed records.
    Batch,
    /// Topic, value.
    Value,
}

impl Preset {
    /// Returns its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Packed => "packed",
            Self::Batch => "batch",
            Self::Value => "value",
        }
    }
}

/// The program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// zafka with a preset.
    Zafka(Preset),
    /// An older zafka, likewise.
    Before(Preset),
    /// The C relay with the value alone (1) or four frames (4).
    CRelay(u8),
    /// The plain librdkafka consumer.
    Consumer,
}

impl Subject {
    /// The text that the table has for it.
    pub fn title(self) -> String {
        match self {
            Self::Zafka(preset) => format!("zafka {}", preset.name()),
            Self::Before(preset) => format!("zafka {} (before)", preset.name()),
            Self::CRelay(1) => "C relay, value alone".to_owned(),
            Self::CRelay(_) => "C relay, 4 frames".to_owned(),
            Self::Consumer => "librdkafka consumer alone".to_owned(),
        }
    }
}

/// The kind of receiver that it sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// One SUB on libzmq.
    Libzmq,
    /// Our counting sink with so many SUB connections.
    Counting(usize),
    /// Nothing: the plain consumer counts by itself.
    Itself,
}

impl Sink {
    /// The text that the table has for it.
    pub fn title(self) -> String {
        match self {
            Self::Libzmq => "1 SUB".to_owned(),
            Self::Counting(peers) => format!("{peers} SUB *"),
            Self::Itself => String::new(),
        }
    }
}

impl Sink {
    /// The peers that want the records.
    pub fn peers(self) -> usize {
        match self {
            Self::Libzmq => 1,
            Self::Counting(peers) => peers,
            Self::Itself => 0,
        }
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Case {
    /// The program that is measured.
    pub subject: Subject,
    /// The kind of receiver that it sends to.
    pub sink: Sink,
    /// Further peers, with subscriptions that nothing matches.
    pub idle: usize,
    /// The topic that it reads.
    pub topic: Topic,
}
