//! A ZeroMQ message as its layout reads it.

use bytes::Bytes;
use zafka_envelope::{Carried, OwnedRecord, Preset, decode_batch, decode_json, decode_packed};

use super::layout::Layout;

/// The content of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Records, restored whole.
    Records(Vec<OwnedRecord>),
    /// The parts of one record that templates carry.
    Carried(Box<Carried>),
    /// Preset `value`: the topic and the value alone.
    Value { topic: Bytes, value: Bytes },
    /// Frames that the layout does not fit, and why.
    Other { frames: Vec<Bytes>, reason: String },
}

/// Reads a message as `layout` says.
pub(crate) fn read(layout: &Layout, frames: Vec<Bytes>) -> Content {
    let slices: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
    let decoded = match layout {
        Layout::Preset(Preset::Json) => {
            decode_json(&slices).map(|record| Content::Records(vec![record]))
        }
        Layout::Preset(Preset::Packed) => {
            decode_packed(&slices).map(|record| Content::Records(vec![record]))
        }
        Layout::Preset(Preset::Batch) => decode_batch(&slices).map(Content::Records),
        Layout::Preset(Preset::Value) => {
            return match <[Bytes; 2]>::try_from(frames) {
                Ok([topic, value]) => Content::Value { topic, value },
                Err(frames) => {
                    let reason = format!("{} frames, expected 2", frames.len());
                    Content::Other { frames, reason }
                }
            };
        }
        Layout::Templates(decoder) => {
            decoder.decode(&slices).map(|carried| Content::Carried(Box::new(carried)))
        }
    };
    decoded.unwrap_or_else(|error| Content::Other { reason: error.to_string(), frames })
}
