//! Prints the records of a zafka route with `frames = "json"`, and what is missing among them.
//! Usage: subscribe ENDPOINT [PREFIX...]

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;

use serde::Deserialize;

/// The fields of the meta frame that are needed here; `prev` is absent if it is not known.
#[derive(Deserialize)]
struct Meta {
    topic: String,
    partition: i32,
    offset: i64,
    prev: Option<i64>,
    #[serde(default)]
    null_key: bool,
    #[serde(default)]
    null_value: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, prefixes @ ..] = args.as_slice() else {
        return Err("usage: subscribe ENDPOINT [PREFIX...]".into());
    };
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    for prefix in prefixes {
        socket.set_subscribe(prefix.as_bytes())?;
    }
    if prefixes.is_empty() {
        socket.set_subscribe(b"")?;
    }
    socket.connect(endpoint)?;

    // The newest offset of each partition.
    let mut last = HashMap::new();
    loop {
        let message = socket.recv_multipart(0)?;
        let [_, meta, key, value] = message.as_slice() else {
            let found = message.len();
            return Err(format!("{found} frames: is the route's `frames` \"json\"?").into());
        };
        let meta: Meta = serde_json::from_slice(meta)?;
        let partition = format!("{}/{}", meta.topic, meta.partition);
        if let Some(seen) = last.insert(partition.clone(), meta.offset) {
            missing(&partition, seen, &meta);
        }
        let (key, value) = (text(key, meta.null_key), text(value, meta.null_value));
        println!("{partition} @{} {key} {value}", meta.offset);
    }
}

fn missing(partition: &str, seen: i64, meta: &Meta) {
    let offset = meta.offset;
    match meta.prev {
        _ if offset <= seen => println!("{partition} back: @{seen} to @{offset}"),
        Some(prev) if prev > seen => println!("{partition} gap: @{} to @{prev}", seen + 1),
        // The relay has just begun with the partition: it knows of no record before this one.
        None if offset > seen + 1 => {
            println!("{partition} unknown: @{} to @{}", seen + 1, offset - 1);
        }
        _ => {}
    }
}

fn text(frame: &[u8], is_null: bool) -> Cow<'_, str> {
    if is_null { "null".into() } else { String::from_utf8_lossy(frame) }
}
