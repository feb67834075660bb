//! Splits encoded bytes as a ZMTP peer does.

use zafka_envelope::{Encoded, Encoder, FramePlan, Record};
use zafka_zmtp::frame::{LONG, MORE, read_header};

/// A message: the bodies of its frames.
pub type Message = Vec<Vec<u8>>;

/// The messages of `out`; checks that `ends` says the same as the frames.
pub fn split(out: &Encoded) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut message = Vec::new();
    let mut at = 0;
    while at < out.bytes.len() {
        let header = read_header(&out.bytes[at..]).expect("a whole header");
        assert_eq!(header.flags & !(MORE | LONG), 0, "flags");
        let body = at + header.header_size;
        at = body + header.body_size as usize;
        message.push(out.bytes[body..at].to_vec());
        if header.flags & MORE == 0 {
            assert_eq!(
                out.ends.get(messages.len()),
                Some(&at),
                "the end of message {}",
                messages.len()
            );
            messages.push(std::mem::take(&mut message));
        }
    }
    assert!(message.is_empty(), "an unfinished message");
    assert_eq!(out.ends.len(), messages.len());
    messages
}

/// Encodes and finishes.
pub fn encode(encoder: &mut Encoder, records: &[Record<'_>]) -> Encoded {
    let mut out = Encoded::default();
    for record in records {
        encoder.encode(record, &mut out);
    }
    encoder.finish(&mut out);
    assert_eq!(out.records as usize, records.len());
    out
}

/// The messages of `records` on topic `orders`, partition 3, route `main`.
pub fn messages(plan: &FramePlan, records: &[Record<'_>]) -> Vec<Message> {
    split(&encode(&mut plan.encoder("main", "orders", 3), records))
}

/// The frames of a message as a decoder takes them.
pub fn frames(message: &Message) -> Vec<&[u8]> {
    message.iter().map(Vec::as_slice).collect()
}
