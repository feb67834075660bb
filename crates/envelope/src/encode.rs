//! Records to ZMTP frames, headers included, appended to one buffer.
//!
//! An encoder is made once for each partition; what does not change within it is laid out then.
//! In steady state no record allocates: the buffer grows, and is reused.

use zafka_zmtp::frame::{LONG, Position, read_header};

use crate::encoded::{Encoded, LONG_HEADER};
use crate::meta::Meta;
use crate::plan::{FramePlan, Layout, Place};
use crate::steps::{Step, put_frame, steps};
use crate::{Record, packed};

/// The most that a message of preset `batch` holds in its second frame, in bytes, unless one record
/// is larger.
pub const BATCH_LIMIT: usize = 256 * 1024;

/// Encodes the records of one partition.
#[derive(Clone, Debug)]
pub struct Encoder {
    partition: i32,
    meta: Meta,
    steps: Steps,
    /// Size of all that is constant in a message, with room for headers and numbers, in bytes.
    overhead: usize,
    routing_is_constant: bool,
}

#[derive(Clone, Debug)]
enum Steps {
    Frames(Vec<Step>),
    Batch {
        /// The routing frame with its header.
        routing: Vec<u8>,
        /// Start of the open message's second frame in the buffer, its header included.
        open: Option<usize>,
    },
}

impl FramePlan {
    /// The encoder for one partition of one topic.
    pub fn encoder(&self, route: &str, topic: &str, partition: i32) -> Encoder {
        self.encoder_as(route, topic, topic, partition)
    }

    /// The same with another name for the topic in the routing frame.
    pub fn encoder_as(
        &self,
        route: &str,
        topic: &str,
        routing_topic: &str,
        partition: i32,
    ) -> Encoder {
        Encoder::new(&self.layout, Place { route, topic, partition }, routing_topic)
    }
}

impl Encoder {
    /// `routing_topic`: the topic's name in the routing frame.
    pub(crate) fn new(layout: &Layout, place: Place<'_>, routing_topic: &str) -> Self {
        let routing_place = Place { topic: routing_topic, ..place };
        let mut routing_is_constant = true;
        let steps = match layout {
            Layout::Frames(frames) => {
                routing_is_constant =
                    frames.first().is_some_and(|frame| frame.constant(place).is_some());
                Steps::Frames(steps(frames, routing_place, place))
            }
            Layout::Batch => {
                let mut routing = Vec::new();
                put_frame(&mut routing, Position::More, routing_topic.as_bytes());
                Steps::Batch { routing, open: None }
            }
        };
        let overhead = match &steps {
            Steps::Frames(steps) => steps.iter().map(|step| step.overhead(place)).sum(),
            Steps::Batch { routing, .. } => routing.len() + LONG_HEADER,
        };
        let meta = Meta::new(place.topic, place.partition);
        Self { partition: place.partition, meta, steps, overhead, routing_is_constant }
    }

    /// Appends the record to `out`: its frames to `bytes`, and an entry to `ends` for each message
    /// finished.
    ///
    /// With preset `batch` the message stays open for more; see [`Encoder::finish`].
    #[inline]
    pub fn encode(&mut self, record: &Record<'_>, out: &mut Encoded) {
        let size = packed::size(record);
        out.bytes.reserve(self.overhead + size);
        out.records += 1;
        let partition = self.partition;
        match &mut self.steps {
            Steps::Batch { routing, open } => {
                if open
                    .is_some_and(|start| out.bytes.len() - start - LONG_HEADER + size > BATCH_LIMIT)
                {
                    close(open, out);
                }
                if open.is_none() {
                    out.bytes.extend_from_slice(routing);
                    *open = Some(out.bytes.len());
                    out.bytes.extend_from_slice(&[0; LONG_HEADER]);
                }
                packed::put(&mut out.bytes, partition, record, size);
            }
            Steps::Frames(steps) => {
                let start = out.bytes.len();
                for step in steps {
                    step.put(partition, record, size, &mut self.meta, out);
                }
                out.ends.push(out.bytes.len());
                if !self.routing_is_constant && out.same_routing {
                    out.same_routing = first_frame(&out.bytes) == first_frame(&out.bytes[start..]);
                }
            }
        }
    }

    /// Returns true if a message may hold several records: the one encoded last is in the message
    /// that is open then, and else in one of its own.
    pub fn is_batch(&self) -> bool {
        matches!(self.steps, Steps::Batch { .. })
    }

    /// Ends the message that is open, if any. To be called before `out` is handed on or exchanged
    /// for another.
    pub fn finish(&mut self, out: &mut Encoded) {
        if let Steps::Batch { open, .. } = &mut self.steps {
            close(open, out);
        }
    }
}

/// Writes the open batch frame's header, now that its size is known, and ends the message.
fn close(open: &mut Option<usize>, out: &mut Encoded) {
    let Some(start) = open.take() else { return };
    let size = (out.bytes.len() - start - LONG_HEADER) as u64;
    out.bytes[start] = LONG;
    out.bytes[start + 1..start + LONG_HEADER].copy_from_slice(&size.to_be_bytes());
    out.ends.push(out.bytes.len());
}

/// The first frame of `messages`, header included.
fn first_frame(messages: &[u8]) -> Option<&[u8]> {
    let header = read_header(messages)?;
    messages.get(..header.header_size + usize::try_from(header.body_size).ok()?)
}
