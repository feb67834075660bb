//! Layout of a Kafka record as ZeroMQ frames, and back.
//!
//! A [`FramePlan`] is parsed once from a preset's name or a list of templates. Its [`Encoder`]
//! writes the records of one partition as ZMTP frames; [`decode_json`], [`decode_packed`] and
//! [`decode_batch`] read them back. The wire format is specified in `docs/envelope.md`, with test
//! vectors in `vectors/`. Pure: no I/O, no clock, no knowledge of Kafka's or ZeroMQ's connections.
//!
//! ```
//! use zafka_envelope::{Encoded, FramePlan, Record, Timestamp};
//!
//! let plan = FramePlan::parse(&["{topic}", "{offset:u64be}", "{value}"]).expect("three
//! templates"); let mut encoder = plan.encoder("a route", "orders", 3);
//!
//! let mut chunk = Encoded::default();
//! let record = Record {
//!     offset: 42,
//!     prev: Some(41),
//!     timestamp: Timestamp::Create(1_700_000_000_000),
//!     key: None,
//!     value: Some(b"hello"),
//!     headers: &[],
//! };
//! encoder.encode(&record, &mut chunk);
//! encoder.finish(&mut chunk);
//!
//! // Each frame is a byte of flags (1: more frames follow), a length, and its bytes.
//! assert_eq!(chunk.bytes, b"\x01\x06orders\x01\x08\0\0\0\0\0\0\0\x2a\x00\x05hello");
//! assert_eq!(chunk.ends, [chunk.bytes.len()]);
//! ```
#![forbid(unsafe_code)]

mod decimal;
mod decode;
mod encode;
mod encoded;
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
pub use encode::{BATCH_LIMIT, Encoder};
pub use encoded::Encoded;
pub use error::{DecodeError, FramePlanError, InboundError, Mistake, UnknownPreset};
pub use inbound::{InboundHeader, InboundPlan, InboundRecord, MAX_RECORDS, OutgoingMessage};
pub use owned::{OwnedHeader, OwnedRecord};
pub use plan::{FramePlan, MAX_FRAMES, Preset};
pub use record::{Header, Record, Timestamp};
