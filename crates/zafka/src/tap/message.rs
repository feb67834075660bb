//! A ZeroMQ message as an envelope's preset reads it.

use bytes::Bytes;
use zafka_envelope::{OwnedRecord, Preset, decode_batch, decode_json, decode_packed};

/// What a message holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Records, restored whole.
    Records(Vec<OwnedRecord>),
    /// Preset `value`: the topic and the value alone.
    Value { topic: Bytes, value: Bytes },
    /// Frames that the preset does not fit, and why.
    Other { frames: Vec<Bytes>, reason: String },
}

/// Reads a message as `preset` lays it out.
pub(crate) fn read(preset: Preset, frames: Vec<Bytes>) -> Content {
    let slices: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
    let decoded = match preset {
        Preset::Json => decode_json(&slices).map(|record| vec![record]),
        Preset::Packed => decode_packed(&slices).map(|record| vec![record]),
        Preset::Batch => decode_batch(&slices),
        Preset::Value => {
            return match <[Bytes; 2]>::try_from(frames) {
                Ok([topic, value]) => Content::Value { topic, value },
                Err(frames) => {
                    let reason = format!("{} frames where preset value has 2", frames.len());
                    Content::Other { frames, reason }
                }
            };
        }
    };
    match decoded {
        Ok(records) => Content::Records(records),
        Err(error) => Content::Other { reason: error.to_string(), frames },
    }
}
