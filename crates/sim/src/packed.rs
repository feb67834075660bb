//! The `packed` envelope read by the book (docs/envelope.md): shares no code with the product.

use zafka_testkit::Received;

use crate::reader::Reader;

/// Reads the two frames of a message.
pub fn decode(frames: &[&[u8]]) -> Result<Received, String> {
    let [topic, packed] = frames else {
        return Err(format!("{} frames, the packed envelope has 2", frames.len()));
    };
    let mut at = Reader(packed);
    let length = at.number(u32::from_le_bytes)? as usize;
    if length != at.0.len() {
        return Err(format!("{length} bytes are told, and {} are there", at.0.len()));
    }
    let [version, flags, 0, 0] = at.bytes(4)? else { return Err("not zero".to_owned()) };
    if *version != 1 || flags & !7 != 0 {
        return Err(format!("version {version}, flags {flags}"));
    }
    let partition = at.number(i32::from_le_bytes)?;
    let (offset, timestamp, prev) = (
        at.number(i64::from_le_bytes)?,
        at.number(i64::from_le_bytes)?,
        at.number(i64::from_le_bytes)?,
    );
    let _schema = at.number(i32::from_le_bytes)?;
    let mut headers = Vec::new();
    for _ in 0..at.number(u32::from_le_bytes)? {
        let length = at.number(u32::from_le_bytes)? as usize;
        let name = at.bytes(length)?.to_vec();
        let value = match at.number(i32::from_le_bytes)? {
            -1 => None,
            length => Some(at.bytes(length as usize)?.to_vec()),
        };
        headers.push((name, value));
    }
    let length = at.number(u32::from_le_bytes)? as usize;
    let key = at.bytes(length)?.to_vec();
    let length = at.number(u32::from_le_bytes)? as usize;
    let value = at.bytes(length)?.to_vec();
    if !at.0.is_empty() {
        return Err("more than a record".to_owned());
    }
    Ok(Received {
        topic: String::from_utf8(topic.to_vec()).map_err(|error| error.to_string())?,
        partition,
        offset,
        prev: (prev >= 0).then_some(prev),
        timestamp,
        log_append: flags & 4 != 0,
        key: (flags & 1 == 0).then_some(key),
        value: (flags & 2 == 0).then_some(value),
        headers,
    })
}
