//! The `packed` envelope read by the book (docs/envelope.md): shares no code with the product.

use zafka_testkit::Received;

/// Reads the two frames of a message.
pub fn decode(frames: &[&[u8]]) -> Result<Received, String> {
    let [topic, packed] = frames else {
        return Err(format!("{} frames, the packed envelope has 2", frames.len()));
    };
    let mut at = Reader(packed);
    let length = at.u32()? as usize;
    if length != at.0.len() {
        return Err(format!("{length} bytes are told, and {} are there", at.0.len()));
    }
    let [version, flags, 0, 0] = at.bytes(4)? else { return Err("not zero".to_owned()) };
    if *version != 1 || flags & !7 != 0 {
        return Err(format!("version {version}, flags {flags}"));
    }
    let partition = at.i32()?;
    let (offset, timestamp, prev) = (at.i64()?, at.i64()?, at.i64()?);
    let _schema = at.i32()?;
    let mut headers = Vec::new();
    for _ in 0..at.u32()? {
        let length = at.u32()? as usize;
        let name = at.bytes(length)?.to_vec();
        let value = match at.i32()? {
            -1 => None,
            length => Some(at.bytes(length as usize)?.to_vec()),
        };
        headers.push((name, value));
    }
    let length = at.u32()? as usize;
    let key = at.bytes(length)?.to_vec();
    let length = at.u32()? as usize;
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

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or("cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.bytes(N)?.try_into().map_err(|_| "cut off".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, String> {
        self.array().map(i32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }
}
