//! How messages are shown: one JSON object a line for programs, aligned and coloured for people.

use serde_json::{Map, Value, json};
use zafka_envelope::{OwnedRecord, Timestamp};

use super::message::Content;

/// How much of a value a person is shown, in characters.
const SHOWN: usize = 120;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One JSON object for each record.
    Json,
    /// A line to read, with ANSI colours.
    Colour,
    /// A line to read.
    Plain,
}

/// The lines of a message.
pub(crate) fn lines(content: &Content, style: Style) -> Vec<String> {
    match (content, style) {
        (Content::Records(records), Style::Json) => {
            records.iter().map(|r| record_json(r).to_string()).collect()
        }
        (Content::Records(records), _) => records.iter().map(|record| record_line(record, style)).collect(),
        (Content::Value { topic, value }, Style::Json) => {
            vec![json!({"topic": bytes_json(topic), "value": bytes_json(value)}).to_string()]
        }
        (Content::Value { topic, value }, _) => {
            vec![format!("{}  {}", paint(style, CYAN, &text(topic)), text(value))]
        }
        (Content::Other { frames, reason }, Style::Json) => {
            let frames: Vec<Value> = frames.iter().map(|frame| bytes_json(frame)).collect();
            vec![json!({"frames": frames, "error": reason}).to_string()]
        }
        (Content::Other { frames, reason }, _) => {
            let frames: Vec<String> = frames.iter().map(|frame| format!("[{}]", text(frame))).collect();
            vec![format!("{}  ({})", frames.join(" "), text(reason.as_bytes()))]
        }
    }
}

const CYAN: &str = "36";
const DIM: &str = "2";
const YELLOW: &str = "33";

fn paint(style: Style, colour: &str, text: &str) -> String {
    match style {
        Style::Colour => format!("\x1b[{colour}m{text}\x1b[0m"),
        Style::Json | Style::Plain => text.to_owned(),
    }
}

fn record_line(record: &OwnedRecord, style: Style) -> String {
    let topic = record.topic.as_ref().map_or_else(|| "?".to_owned(), |topic| text(topic.as_bytes()));
    let place = format!("{topic}[{}]", record.partition);
    let key = record.key.as_deref().map_or_else(|| "null".to_owned(), text);
    let value = record.value.as_deref().map_or_else(|| "null".to_owned(), text);
    let mut line = format!(
        "{} {} {}  {}",
        paint(style, CYAN, &place),
        paint(style, DIM, &format!("@{}", record.offset)),
        paint(style, YELLOW, &key),
        value,
    );
    if !record.headers.is_empty() {
        let headers: Vec<String> = (record.headers.iter())
            .map(|header| {
                let value = header.value.as_deref().map_or_else(|| "null".to_owned(), text);
                format!("{}={value}", text(&header.name))
            })
            .collect();
        line += &paint(style, DIM, &format!("  {}", headers.join(" ")));
    }
    line
}

/// Bytes as text that is safe to show on a terminal, cut where it is long.
fn text(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("<{} bytes>", bytes.len());
    };
    let mut shown = String::new();
    for character in text.chars().take(SHOWN) {
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn record_json(record: &OwnedRecord) -> Value {
    let mut object = Map::new();
    if let Some(topic) = &record.topic {
        object.insert("topic".to_owned(), json!(topic));
    }
    object.insert("partition".to_owned(), json!(record.partition));
    object.insert("offset".to_owned(), json!(record.offset));
    let (timestamp, kind) = match record.timestamp {
        Timestamp::None => (None, None),
        Timestamp::Create(ms) => (Some(ms), None),
        Timestamp::LogAppend(ms) => (Some(ms), Some("log_append")),
    };
    object.insert("timestamp".to_owned(), json!(timestamp));
    if let Some(kind) = kind {
        object.insert("timestamp_type".to_owned(), json!(kind));
    }
    if let Some(prev) = record.prev {
        object.insert("prev".to_owned(), json!(prev));
    }
    object.insert("key".to_owned(), optional_json(record.key.as_deref()));
    object.insert("value".to_owned(), optional_json(record.value.as_deref()));
    if !record.headers.is_empty() {
        let headers = record.headers.iter();
        let headers: Vec<Value> = headers
            .map(|header| json!([bytes_json(&header.name), optional_json(header.value.as_deref())]))
            .collect();
        object.insert("headers".to_owned(), json!(headers));
    }
    Value::Object(object)
}

fn optional_json(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, bytes_json)
}

/// A string where the bytes are UTF-8, `{"base64": "..."}` where not, as in the envelope's `{meta}`.
fn bytes_json(bytes: &[u8]) -> Value {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use zafka_envelope::OwnedHeader;

    use super::*;

    fn record() -> OwnedRecord {
        OwnedRecord {
            topic: Some("orders".to_owned()),
            partition: 3,
            offset: 12,
            timestamp: Timestamp::Create(1_700_000_000_000),
            prev: Some(10),
            key: None,
            value: Some(b"a\x1b[31mb".to_vec()),
            headers: vec![OwnedHeader { name: b"h".to_vec(), value: Some(vec![0xff]) }],
        }
    }

    #[test]
    fn a_program_gets_everything() {
        let line = lines(&Content::Records(vec![record()]), Style::Json).remove(0);
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            json!({"topic": "orders", "partition": 3, "offset": 12, "timestamp": 1_700_000_000_000_i64, "prev": 10,
                "key": null, "value": "a\u{1b}[31mb", "headers": [["h", {"base64": "/w=="}]]})
        );
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let topic = Some("or\u{9b}2Jders".to_owned());
        let records = Content::Records(vec![OwnedRecord { topic, ..record() }]);
        let other = Content::Other { frames: vec!["\u{7f}".into()], reason: "field `\x1b[2J`\n".to_owned() };
        for (content, line) in [
            (records, "or\\u{9b}2Jders[3] @12 null  a\\u{1b}[31mb  h=<1 bytes>"),
            (other, "[\\u{7f}]  (field `\\u{1b}[2J`\\n)"),
        ] {
            assert_eq!(lines(&content, Style::Plain), [line]);
        }
    }
}
