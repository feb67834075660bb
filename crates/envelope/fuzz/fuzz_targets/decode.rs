//! Arbitrary bytes into the three decoders. What decodes is encoded and decoded again, and must be
//! the same.
//!
//! The input is ZMTP frames, so that the fuzzer decides on their number and sizes.
//! To run it, in `crates/envelope`: `cargo +nightly fuzz run decode -s none`. Without a sanitizer,
//! which would find nothing in safe Rust.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zafka_envelope::{
    DecodeError, Encoded, FramePlan, OwnedRecord, Preset, decode_batch, decode_json, decode_packed,
};
use zafka_zmtp::frame::{first_body, read_header};

fuzz_target!(|input: &[u8]| {
    let message = frames(input);
    let one = |record: OwnedRecord| vec![record];
    check(Preset::Json, &message, |frames| decode_json(frames).map(one));
    check(Preset::Packed, &message, |frames| decode_packed(frames).map(one));
    check(Preset::Batch, &message, decode_batch);
});

/// The frames of `bytes`, as far as they are whole; the rest is one more frame.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let (Some(header), Some(body)) = (read_header(bytes), first_body(bytes)) {
        frames.push(body);
        bytes = &bytes[header.header_size + body.len()..];
    }
    if !bytes.is_empty() {
        frames.push(bytes);
    }
    frames
}

fn check(
    preset: Preset,
    message: &[&[u8]],
    decode: impl Fn(&[&[u8]]) -> Result<Vec<OwnedRecord>, DecodeError>,
) {
    let records = match decode(message) {
        Ok(records) => records,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for record in records {
        let mut encoder = FramePlan::preset(preset).encoder(
            "",
            record.topic.as_deref().unwrap_or_default(),
            record.partition,
        );
        let mut out = Encoded::default();
        encoder.encode(&record.as_record(&record.borrow_headers()), &mut out);
        encoder.finish(&mut out);
        let mut again = decode(&frames(&out.bytes)).expect("what was encoded");
        for again in &mut again {
            // A record's frame alone carries no topic.
            again.topic = again.topic.take().filter(|_| record.topic.is_some());
        }
        assert_eq!(again, [record]);
    }
}
