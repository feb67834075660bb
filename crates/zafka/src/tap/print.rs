//! Prints messages: one JSON object a line for programs, aligned and colored for people.

use serde_json::{Map, Value, json};
use zafka_envelope::{Carried, OwnedHeader, OwnedRecord, Timestamp};

use super::message::Content;

/// Characters of a value that a person is shown.
const SHOWN: usize = 120;

/// The audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One JSON object for each record.
    Json,
    /// A line to read, with ANSI colors.
    Color,
    /// A line to read.
    Plain,
}

/// The lines of a message.
pub(crate) fn lines(content: &Content, style: Style) -> Vec<String> {
    match (content, style) {
        (Content::Records(records), Style::Json) => {
            records.iter().map(|r| record_json(r).to_string()).collect()
        }
        (Content::Records(records), _) => {
            records.iter().map(|record| record_line(record, style)).collect()
        }
        (Content::Carried(carried), Style::Json) => vec![carried_json(carried).to_string()],
        (Content::Carried(carried), _) => vec![carried_line(carried, style)],
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
            let frames: Vec<String> =
                frames.iter().map(|frame| format!("[{}]", text(frame))).collect();
            vec![format!("{}  ({})", frames.join(" "), text(reason.as_bytes()))]
        }
    }
}

const CYAN: &str = "36";
const DIM: &str = "2";
const YELLOW: &str = "33";

fn paint(style: Style, color: &str, text: &str) -> String {
    match style {
        Style::Color => format!("\x1b[{color}m{text}\x1b[0m"),
        Style::Json | Style::Plain => text.to_owned(),
    }
}

fn record_line(record: &OwnedRecord, style: Style) -> String {
    let topic =
        record.topic.as_ref().map_or_else(|| "?".to_owned(), |topic| text(topic.as_bytes()));
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
        line += &paint(style, DIM, &format!("  {}", headers_line(&record.headers)));
    }
    line
}

fn headers_line(headers: &[OwnedHeader]) -> String {
    let headers =
        headers.iter().map(|header| format!("{}={}", text(&header.name), or_null(&header.value)));
    headers.collect::<Vec<_>>().join(" ")
}

fn or_null(bytes: &Option<Vec<u8>>) -> String {
    bytes.as_deref().map_or_else(|| "null".to_owned(), text)
}

/// The parts that are there, in the order of a whole record.
fn carried_line(carried: &Carried, style: Style) -> String {
    let mut place = carried.topic.as_ref().map(|topic| text(topic.as_bytes())).unwrap_or_default();
    if let Some(partition) = carried.partition {
        place += &format!("[{partition}]");
    }
    let offset = carried.offset.map(|offset| format!("@{offset}"));
    let offset = offset.or_else(|| carried.offset_low.map(|low| format!("@...{low}")));
    let mut parts = Vec::new();
    parts.extend((!place.is_empty()).then(|| paint(style, CYAN, &place)));
    parts.extend(offset.map(|offset| paint(style, DIM, &offset)));
    parts.extend(carried.key.as_ref().map(|key| paint(style, YELLOW, &or_null(key))));
    let undecided = carried.undecided.iter().map(|(_, frame)| format!("[{}]", text(frame)));
    let mut line =
        [parts.join(" ")].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>();
    line.extend(carried.value.as_ref().map(or_null));
    line.extend(undecided);
    line.extend(
        (!carried.headers.is_empty()).then(|| paint(style, DIM, &headers_line(&carried.headers))),
    );
    line.join("  ")
}

/// The fields of a whole record that are there; beside them `route`, the low halves of numbers, and
/// the frames in which fields cannot be told apart, by their number from 1.
fn carried_json(carried: &Carried) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        object.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("route", carried.route.as_ref().map(|route| json!(route)));
    put("topic", carried.topic.as_ref().map(|topic| json!(topic)));
    put("partition", carried.partition.map(|partition| json!(partition)));
    put("offset", carried.offset.map(|offset| json!(offset)));
    put("offset_low", carried.offset_low.map(|low| json!(low)));
    put("timestamp", carried.timestamp.map(|ms| if ms == -1 { Value::Null } else { json!(ms) }));
    put("timestamp_low", carried.timestamp_low.map(|low| json!(low)));
    put("timestamp_type", carried.is_log_append.then(|| json!("log_append")));
    put("prev", carried.prev.map(|prev| json!(prev)));
    put("key", carried.key.as_ref().map(|key| optional_json(key.as_deref())));
    put("value", carried.value.as_ref().map(|value| optional_json(value.as_deref())));
    put("headers", (!carried.headers.is_empty()).then(|| headers_json(&carried.headers)));
    let undecided =
        carried.undecided.iter().map(|(frame, bytes)| ((frame + 1).to_string(), bytes_json(bytes)));
    let undecided: Map<_, _> = undecided.collect();
    put("undecided", (!undecided.is_empty()).then(|| json!(undecided)));
    Value::Object(object)
}

/// Bytes as text that is safe to show on a terminal, cut if it is long.
fn text(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return format!("<{} bytes>", bytes.len());
    };
    let mut shown = String::new();
    for character in text.chars().take(SHOWN) {
        if character.is_control() {
            shown.extend(character.escape_default())
        } else {
            shown.push(character)
        }
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
        object.insert("headers".to_owned(), headers_json(&record.headers));
    }
    Value::Object(object)
}

fn headers_json(headers: &[OwnedHeader]) -> Value {
    let headers = headers.iter();
    headers
        .map(|header| json!([bytes_json(&header.name), optional_json(header.value.as_deref())]))
        .collect()
}

fn optional_json(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, bytes_json)
}

/// A string if the bytes are UTF-8, else `{"base64": "..."}`, as in the envelope's `{meta}`.
fn bytes_json(bytes: &[u8]) -> Value {
    use base64::Engine as _;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
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
            json!({"topic": "orders", "partition": 3, "offset": 12,
                "timestamp": 1_700_000_000_000_i64, "prev": 10, "key": null,
                "value": "a\u{1b}[31mb", "headers": [["h", {"base64": "/w=="}]]})
        );
    }

    #[test]
    fn what_templates_carry_and_nothing_else() {
        let carried = Carried {
            topic: Some("orders".to_owned()),
            offset_low: Some(7),
            timestamp: Some(-1),
            key: Some(None),
            value: Some(Some(b"v".to_vec())),
            headers: vec![OwnedHeader { name: b"h".to_vec(), value: Some(b"x".to_vec()) }],
            undecided: vec![(2, b"kv".to_vec())],
            ..Carried::default()
        };
        let content = Content::Carried(Box::new(carried));
        let read: Value = serde_json::from_str(&lines(&content, Style::Json)[0]).unwrap();
        assert_eq!(
            read,
            json!({"topic": "orders", "offset_low": 7, "timestamp": null, "key": null, "value": "v",
                "headers": [["h", "x"]], "undecided": {"3": "kv"}})
        );
        assert_eq!(lines(&content, Style::Plain), ["orders @...7 null  v  [kv]  h=x"]);
        let nothing = Content::Carried(Box::default());
        assert_eq!(
            [lines(&nothing, Style::Json), lines(&nothing, Style::Plain)].concat(),
            ["{}", ""]
        );
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let topic = Some("or\u{9b}2Jders".to_owned());
        let records = Content::Records(vec![OwnedRecord { topic, ..record() }]);
        let other = Content::Other {
            frames: vec!["\u{7f}".into()],
            reason: "field `\x1b[2J`\n".to_owned(),
        };
        for (content, line) in [
            (records, "or\\u{9b}2Jders[3] @12 null  a\\u{1b}[31mb  h=<1 bytes>"),
            (other, "[\\u{7f}]  (field `\\u{1b}[2J`\\n)"),
        ] {
            assert_eq!(lines(&content, Style::Plain), [line]);
        }
    }
}
