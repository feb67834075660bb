//! The steps of an encoder for each frame: constant frames laid out, the others written from the
//! record.

use zafka_zmtp::frame::{LONG, Position, SHORT_MAX, put_header};

use crate::encoded::{Encoded, LONG_HEADER};
use crate::meta::Meta;
use crate::plan::Place;
use crate::template::{Format, Piece, Template};
use crate::{Record, Timestamp, packed};

/// The bytes for one frame, or for several that are constant.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Whole frames, headers included.
    Constant(Vec<u8>),
    Key(Position),
    Value(Position),
    Meta(Position),
    Packed(Position),
    /// A frame of several parts.
    Parts(Position, Vec<Part>),
}

/// A part of a frame.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Constant(Vec<u8>),
    Offset(Format),
    Timestamp(Format),
    Key,
    Value,
    Header(String),
    Meta,
    Packed,
}

/// The steps for a list of templates, the first of them in a place of its own; neighboring
/// constant frames become one.
pub(crate) fn steps(frames: &[Template], first: Place<'_>, others: Place<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let place = if i == 0 { first } else { others };
        let position = if i + 1 == frames.len() { Position::Last } else { Position::More };
        let Some(body) = frame.constant(place) else {
            steps.push(step(frame, position, place));
            continue;
        };
        if let Some(Step::Constant(bytes)) = steps.last_mut() {
            put_frame(bytes, position, &body);
        } else {
            let mut bytes = Vec::new();
            put_frame(&mut bytes, position, &body);
            steps.push(Step::Constant(bytes));
        }
    }
    steps
}

/// The step for a frame that is not constant.
fn step(frame: &Template, position: Position, place: Place<'_>) -> Step {
    match frame.0.as_slice() {
        [Piece::Key] => return Step::Key(position),
        [Piece::Value] => return Step::Value(position),
        [Piece::Meta] => return Step::Meta(position),
        [Piece::Packed] => return Step::Packed(position),
        _ => {}
    }
    let mut parts = Vec::new();
    let mut constant = Vec::new();
    for piece in &frame.0 {
        let part = match piece {
            Piece::Offset(format) => Part::Offset(*format),
            Piece::Timestamp(format) => Part::Timestamp(*format),
            Piece::Key => Part::Key,
            Piece::Value => Part::Value,
            Piece::Header(name) => Part::Header(name.clone()),
            Piece::Meta => Part::Meta,
            Piece::Packed => Part::Packed,
            Piece::Literal(_) | Piece::Topic | Piece::Route | Piece::Partition(_) => {
                place.put(&mut constant, piece);
                continue;
            }
            // Not parsed in an outbound list.
            Piece::Id | Piece::Ignored => continue,
        };
        if !constant.is_empty() {
            parts.push(Part::Constant(std::mem::take(&mut constant)));
        }
        parts.push(part);
    }
    if !constant.is_empty() {
        parts.push(Part::Constant(constant));
    }
    Step::Parts(position, parts)
}

impl Step {
    #[inline]
    pub(crate) fn put(
        &self,
        partition: i32,
        record: &Record<'_>,
        size: usize,
        meta: &mut Meta,
        out: &mut Encoded,
    ) {
        let bytes = &mut out.bytes;
        match self {
            Self::Constant(frames) => bytes.extend_from_slice(frames),
            Self::Key(position) => put_frame(bytes, *position, record.key.unwrap_or_default()),
            Self::Value(position) => put_frame(bytes, *position, record.value.unwrap_or_default()),
            Self::Meta(position) => {
                let start = begin(bytes, *position);
                meta.put(bytes, record);
                end(bytes, start);
            }
            Self::Packed(position) => {
                put_header(bytes, *position, size);
                packed::put(bytes, partition, record, size);
            }
            Self::Parts(position, parts) => {
                let start = begin(bytes, *position);
                for part in parts {
                    part.put(partition, record, size, meta, out);
                }
                end(&mut out.bytes, start);
            }
        }
    }

    /// Bytes to set aside besides those of key, value and headers.
    pub(crate) fn overhead(&self, place: Place<'_>) -> usize {
        let meta = 256 + place.topic.len();
        match self {
            Self::Constant(frames) => frames.len(),
            Self::Key(_) | Self::Value(_) | Self::Packed(_) => LONG_HEADER,
            Self::Meta(_) => meta,
            Self::Parts(_, parts) => {
                let part = |part: &Part| match part {
                    Part::Constant(bytes) => bytes.len(),
                    Part::Meta => meta,
                    _ => 20,
                };
                LONG_HEADER + parts.iter().map(part).sum::<usize>()
            }
        }
    }
}

impl Part {
    fn put(
        &self,
        partition: i32,
        record: &Record<'_>,
        size: usize,
        meta: &mut Meta,
        out: &mut Encoded,
    ) {
        let bytes = &mut out.bytes;
        match self {
            Self::Constant(text) => bytes.extend_from_slice(text),
            Self::Offset(format) => format.put(bytes, record.offset),
            Self::Timestamp(format) => match record.timestamp {
                Timestamp::None => format.put(bytes, -1),
                Timestamp::Create(ms) | Timestamp::LogAppend(ms) => format.put(bytes, ms),
            },
            Self::Key => bytes.extend_from_slice(record.key.unwrap_or_default()),
            Self::Value => bytes.extend_from_slice(record.value.unwrap_or_default()),
            Self::Header(name) => {
                let last = record.headers.iter().rfind(|header| header.name == name.as_bytes());
                match last.and_then(|header| header.value) {
                    Some(value) => bytes.extend_from_slice(value),
                    None => out.headers_missing += 1,
                }
            }
            Self::Meta => meta.put(bytes, record),
            Self::Packed => packed::put(bytes, partition, record, size),
        }
    }
}

#[inline]
pub(crate) fn put_frame(out: &mut Vec<u8>, position: Position, body: &[u8]) {
    put_header(out, position, body.len());
    out.extend_from_slice(body);
}

/// Begins a frame of unknown size with a short header, since most bodies turn out short; returns
/// where it starts.
#[inline]
fn begin(out: &mut Vec<u8>, position: Position) -> usize {
    put_header(out, position, 0);
    out.len() - 2
}

/// Sets the size of the frame that began at `start`; moves the body if its header has to be long.
#[inline]
fn end(out: &mut Vec<u8>, start: usize) {
    let size = out.len() - start - 2;
    if size <= SHORT_MAX {
        out[start + 1] = size as u8;
    } else {
        lengthen(out, start, size);
    }
}

#[cold]
fn lengthen(out: &mut Vec<u8>, start: usize, size: usize) {
    let body = start + 2;
    out.extend_from_slice(&[0; LONG_HEADER - 2]);
    out.copy_within(body..body + size, start + LONG_HEADER);
    out[start] |= LONG;
    out[start + 1..start + LONG_HEADER].copy_from_slice(&(size as u64).to_be_bytes());
}
