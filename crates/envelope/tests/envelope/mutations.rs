//! Cut and changed messages: a decoder answers with a record or an error, and never panics.

use proptest::prelude::*;
use zafka_envelope::{Preset, decode_batch, decode_json, decode_packed};

use crate::vectors::{File, decode};
use crate::wire::{Message, frames};

const PRESETS: [Preset; 3] = [Preset::Json, Preset::Packed, Preset::Batch];

/// The vectors' messages that are small enough to be changed byte by byte.
fn small_messages() -> Vec<(Preset, Message)> {
    let mut found = Vec::new();
    for preset in PRESETS {
        for case in File::read(preset.name()).cases() {
            let small =
                case.messages.into_iter().filter(|m| m.iter().map(Vec::len).sum::<usize>() < 1500);
            found.extend(small.map(|message| (preset, message)));
        }
    }
    assert!(found.len() > 30);
    found
}

#[test]
fn cut_messages() {
    for (preset, message) in small_messages() {
        for size in 0..message[1].len() {
            let mut cut = message.clone();
            cut[1].truncate(size);
            // What is left of a batch can be a whole one.
            let result = decode(preset, &cut).unwrap();
            assert!(
                result.is_err() || preset == Preset::Batch,
                "{preset} cut to {size} of {:02x?}",
                message[1]
            );
        }
        for count in 0..message.len() {
            let result = decode(preset, &message[..count].to_vec()).unwrap();
            assert!(result.is_err(), "{preset}: {count} frames of {message:02x?}");
        }
    }
}

#[test]
fn changed_bytes() {
    for (preset, message) in small_messages() {
        for at in 0..message[1].len() {
            for byte in [0x00, 0x01, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'9', b'-'] {
                let mut changed = message.clone();
                changed[1][at] = byte;
                let _ = decode(preset, &changed);
            }
            let mut shorter = message.clone();
            shorter[1].remove(at);
            let _ = decode(preset, &shorter);
        }
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = [br#"{"v":1,"x":"#.as_slice(), &b"[".repeat(1_000_000)].concat();
    assert!(decode_json(&[b"t", &deep, b"", b""]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_frames(message: Vec<Vec<u8>>) {
        let frames = frames(&message);
        let _ = (decode_json(&frames), decode_packed(&frames), decode_batch(&frames));
    }
}
