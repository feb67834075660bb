//! The `json` envelope read by the book (docs/envelope.md) and nothing else: a test oracle that
//! shares no code with crates/envelope.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// A record as a subscriber got it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The offset of the record before it, if the envelope has it.
    pub prev: Option<i64>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// True if the time is the broker's.
    pub log_append: bool,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Headers in order: name and value.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Reads the four frames of the `json` preset: topic, meta, key, value.
pub fn decode_json(frames: &[Vec<u8>]) -> Result<Received, String> {
    let [topic, meta, key, value] = frames else {
        return Err(format!("{} frames, the json envelope has 4", frames.len()));
    };
    let meta: Value = serde_json::from_slice(meta).map_err(|e| format!("meta is not JSON: {e}"))?;
    let int = |name: &str| meta[name].as_i64().ok_or_else(|| format!("meta has no {name}: {meta}"));
    if int("v")? != 1 {
        return Err(format!("version {} instead of 1", meta["v"]));
    }
    if meta["topic"].as_str().map(str::as_bytes) != Some(topic) {
        return Err(format!("topic frame {topic:?} does not match meta {meta}"));
    }
    let flag = |name: &str| meta[name].as_bool() == Some(true);
    let payload = |null: bool, frame: &Vec<u8>| match (null, frame.is_empty()) {
        (true, false) => Err(format!("null, but the frame has {} bytes", frame.len())),
        (true, true) => Ok(None),
        (false, _) => Ok(Some(frame.clone())),
    };
    let headers = match &meta["headers"] {
        Value::Null => Vec::new(),
        Value::Array(pairs) => pairs.iter().map(header).collect::<Result<_, _>>()?,
        other => return Err(format!("headers are {other}")),
    };
    Ok(Received {
        topic: String::from_utf8(topic.clone()).map_err(|e| e.to_string())?,
        partition: i32::try_from(int("partition")?).map_err(|e| e.to_string())?,
        offset: int("offset")?,
        prev: meta.get("prev").map(|_| int("prev")).transpose()?,
        timestamp: int("timestamp")?,
        log_append: meta["timestamp_type"] == "log_append",
        key: payload(flag("null_key"), key)?,
        value: payload(flag("null_value"), value)?,
        headers,
    })
}

fn header(pair: &Value) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    let name = bytes(&pair[0])?.ok_or_else(|| format!("header without a name: {pair}"))?;
    Ok((name, bytes(&pair[1])?))
}

/// A string is its UTF-8, null is null, anything else is `{"base64": "..."}`.
fn bytes(value: &Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        other => {
            let text = other["base64"].as_str().ok_or_else(|| format!("not bytes: {other}"))?;
            BASE64_STANDARD.decode(text).map(Some).map_err(|e| format!("{other}: {e}"))
        }
    }
}
