//! Reads the meta frame, version 1. Fields that version 1 does not have are passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::{DecodeError, OwnedHeader, Timestamp};

/// The content of a meta frame.
pub(crate) struct MetaFrame {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    pub(crate) prev: Option<i64>,
    pub(crate) null_key: bool,
    pub(crate) null_value: bool,
    pub(crate) headers: Vec<OwnedHeader>,
}

/// Reads the object.
pub(crate) fn read(frame: &[u8]) -> Result<MetaFrame, DecodeError> {
    // serde would take an array of the fields, too.
    if !frame.trim_ascii_start().starts_with(b"{") {
        return Err(DecodeError::Meta("expected a JSON object".to_owned()));
    }
    let object: MetaObject = match serde_json::from_slice(frame) {
        Ok(object) => object,
        // Another version may give the same names another shape: name the version then.
        Err(error) => match serde_json::from_slice(frame) {
            Ok(Version { v }) if v != 1 => return Err(DecodeError::Version { found: v }),
            _ => return Err(DecodeError::Meta(error.to_string())),
        },
    };
    if object.v != 1 {
        return Err(DecodeError::Version { found: object.v });
    }
    let timestamp = match (object.timestamp, object.timestamp_type) {
        (ms, Some(TimestampType::LogAppend)) => Timestamp::LogAppend(ms),
        (-1, None) => Timestamp::None,
        (ms, None) => Timestamp::Create(ms),
    };
    let headers = object.headers.into_iter();
    Ok(MetaFrame {
        topic: object.topic,
        partition: object.partition,
        offset: object.offset,
        timestamp,
        prev: object.prev.filter(|&prev| prev != -1),
        null_key: object.null_key,
        null_value: object.null_value,
        headers: headers
            .map(|(name, value)| OwnedHeader { name: name.0, value: value.map(|v| v.0) })
            .collect(),
    })
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Deserialize)]
struct MetaObject {
    v: u64,
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: i64,
    prev: Option<i64>,
    #[serde(default)]
    null_key: bool,
    #[serde(default)]
    null_value: bool,
    #[serde(default)]
    headers: Vec<(Bytes, Option<Bytes>)>,
    timestamp_type: Option<TimestampType>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TimestampType {
    LogAppend,
}

/// A string, or `{"base64": "..."}` for bytes that are not UTF-8.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or {\"base64\": \"...\"}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.as_bytes().to_vec()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Bytes, E> {
        Ok(Bytes(text.into_bytes()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let mut bytes = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "base64" || bytes.is_some() {
                return Err(de::Error::custom(format_args!(
                    "found `{name}`, expected one field `base64`"
                )));
            }
            let text = map.next_value::<String>()?;
            bytes = Some(Bytes(STANDARD.decode(text).map_err(de::Error::custom)?));
        }
        bytes.ok_or_else(|| de::Error::missing_field("base64"))
    }
}
