//! How a Kafka record is laid out as ZeroMQ frames, and read back.
//!
//! A [`FramePlan`] is parsed once from a preset's name or a list of templates. Its [`Encoder`]
//! writes the records of one partition as ZMTP frames; [`decode_json`], [`decode_packed`] and
//! [`decode_batch`] read them back. The wire format is specified in `docs/envelope.md`, with test
//! vectors in `vectors/`. Pure: no I/O, no clock, no knowledge of Kafka's or ZeroMQ's connections.
#![forbid(unsafe_code)]

mod decimal;
mod decode;
mod encode;
mod error;
mod inbound;
mod meta;
mod owned;
mod packed;
mod plan;
mod record;
mod steps;
mod template;

pub use decode::{Carried, TemplateDecoder, decode_batch, decode_json, decode_packed};
pub use encode::{BATCH_LIMIT, Encoded, Encoder};
pub use error::{DecodeError, FramePlanError, InboundError, Mistake, UnknownPreset};
pub use inbound::{InboundHeader, InboundPlan, InboundRecord, OutgoingMessage};
pub use owned::{OwnedHeader, OwnedRecord};
pub use plan::{FramePlan, MAX_FRAMES, Preset};
pub use record::{Header, Record, Timestamp};
