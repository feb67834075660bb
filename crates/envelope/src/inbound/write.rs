//! Messages written by the plan that reads them: what a sender puts into each frame.

use super::{Field, FrameReader, InboundLayout, InboundPlan};
use crate::meta::Meta;
use crate::{Header, Record, Timestamp, packed};

/// Offset and partition are the cluster's to give; meta and packed have to name some.
const PLACE: (i32, i64) = (0, 0);

/// The content of one message, whatever its frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingMessage<'a> {
    /// The sender's name for the message, 1 to 255 bytes.
    pub id: &'a [u8],
    /// Topic.
    pub topic: &'a str,
    /// Key; `None` is null. In a list without meta or packed, null and empty look alike.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: &'a [u8],
    /// Headers in their order.
    pub headers: &'a [Header<'a>],
    /// Its time, in ms since the epoch.
    pub timestamp: i64,
}

impl InboundPlan {
    /// The names of the headers that have frames of their own, in their order.
    pub fn header_frames(&self) -> impl Iterator<Item = &str> {
        let frames: &[FrameReader] = match &self.layout {
            InboundLayout::Frames(frames) => frames,
            InboundLayout::Batch => &[],
        };
        frames.iter().filter_map(|frame| match &frame.field {
            Some(Field::Header(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Returns true if messages carry any header, not only those that have frames of their own.
    pub fn has_any_header(&self) -> bool {
        self.is_batch() || self.has(&Field::Meta) || self.has(&Field::Packed)
    }

    /// The frames of a message that says this. What the plan has no place for is left out; a header
    /// frame without its header is empty.
    ///
    /// ```
    /// use zafka_envelope::{InboundPlan, OutgoingMessage};
    ///
    /// let plan = InboundPlan::parse(&["{id}", "sensor/{topic}", "{value}"]).unwrap();
    /// let message = OutgoingMessage {
    ///     id: b"17",
    ///     topic: "kiln",
    ///     key: None,
    ///     value: b"870",
    ///     headers: &[],
    ///     timestamp: 0,
    /// };
    /// assert_eq!(plan.write(&message), [&b"17"[..], b"sensor/kiln", b"870"]);
    /// ```
    pub fn write(&self, message: &OutgoingMessage<'_>) -> Vec<Vec<u8>> {
        match &self.layout {
            InboundLayout::Frames(frames) => {
                frames.iter().map(|frame| self.write_frame(frame, message)).collect()
            }
            InboundLayout::Batch => {
                vec![message.topic.as_bytes().to_vec(), self.write_packed(message)]
            }
        }
    }

    fn write_frame(&self, frame: &FrameReader, message: &OutgoingMessage<'_>) -> Vec<u8> {
        let mut out = frame.before.clone();
        match &frame.field {
            None | Some(Field::Ignored) => {}
            Some(Field::Id) => out.extend_from_slice(message.id),
            Some(Field::Topic) => out.extend_from_slice(message.topic.as_bytes()),
            Some(Field::Key) => out.extend_from_slice(message.key.unwrap_or_default()),
            Some(Field::Value) => out.extend_from_slice(message.value),
            Some(Field::Header(name)) => {
                let mut headers = message.headers.iter();
                let header = headers.find(|header| header.name == name.as_bytes());
                out.extend_from_slice(header.and_then(|header| header.value).unwrap_or_default());
            }
            Some(Field::Timestamp(format)) => format.put(&mut out, message.timestamp),
            Some(Field::Meta) => self.with_record(message, |record| {
                Meta::new(message.topic, PLACE.0).put(&mut out, record);
            }),
            Some(Field::Packed) => out.extend_from_slice(&self.write_packed(message)),
        }
        out.extend_from_slice(&frame.after);
        out
    }

    fn write_packed(&self, message: &OutgoingMessage<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.with_record(message, |record| {
            packed::put(&mut out, PLACE.0, record, packed::size(record));
        });
        out
    }

    /// Gives the message as a record; without the headers that have frames of their own, which
    /// would be there twice.
    fn with_record(&self, message: &OutgoingMessage<'_>, write: impl FnOnce(&Record<'_>)) {
        let is_framed =
            |header: &&Header<'_>| self.header_frames().any(|name| name.as_bytes() == header.name);
        let headers: Vec<_> =
            message.headers.iter().filter(|header| !is_framed(header)).copied().collect();
        write(&Record {
            offset: PLACE.1,
            prev: None,
            timestamp: Timestamp::Create(message.timestamp),
            key: message.key,
            value: Some(message.value),
            headers: &headers,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    const HEADERS: [Header<'static>; 2] = [
        Header { name: b"trace", value: Some(b"7") },
        Header { name: b"tenant", value: Some(b"acme") },
    ];

    fn message(key: Option<&'static [u8]>) -> OutgoingMessage<'static> {
        OutgoingMessage {
            id: b"id-1",
            topic: "orders",
            key,
            value: b"\x00v",
            headers: &HEADERS,
            timestamp: 1_700_000_000_000,
        }
    }

    /// The record that the same plan reads of the message.
    fn read_back(plan: &InboundPlan, message: &OutgoingMessage<'_>) -> crate::OwnedRecord {
        let frames = plan.write(message);
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        let mut records = Vec::new();
        plan.read(&frames, &mut records).unwrap();
        let record = records.remove(0);
        assert!(records.is_empty());
        let header = |header: crate::InboundHeader<'_>| crate::OwnedHeader {
            name: header.name.into_owned(),
            value: header.value.map(|value| value.into_owned()),
        };
        crate::OwnedRecord {
            topic: record.topic.map(|topic| topic.into_owned()),
            partition: 0,
            offset: 0,
            timestamp: record.timestamp.map_or(Timestamp::None, Timestamp::Create),
            prev: None,
            key: record.key.map(|key| key.into_owned()),
            value: record.value.map(|value| value.into_owned()),
            headers: record.headers.into_iter().map(header).collect(),
        }
    }

    #[test]
    fn presets_that_carry_all_are_read_back_whole() {
        for preset in [Preset::Json, Preset::Packed, Preset::Batch] {
            let plan = InboundPlan::preset(preset);
            assert!(plan.has_any_header());
            for key in [None, Some(&b""[..]), Some(&b"k"[..])] {
                let record = read_back(&plan, &message(key));
                let name = preset.name();
                assert_eq!(record.topic.as_deref(), Some("orders"), "{name}");
                assert_eq!(record.key.as_deref(), key, "{name}");
                assert_eq!(record.value.as_deref(), Some(&b"\x00v"[..]), "{name}");
                assert_eq!(record.timestamp, Timestamp::Create(1_700_000_000_000), "{name}");
                let names: Vec<_> = record.headers.iter().map(|header| &*header.name).collect();
                assert_eq!(names, [&b"trace"[..], b"tenant"], "{name}");
            }
        }
    }

    #[test]
    fn every_field_has_its_frame() {
        let binary = 1_700_000_000_000_u64.to_be_bytes();
        for (timestamp, ms) in
            [("{timestamp}", &b"1700000000000"[..]), ("{timestamp:u64be}", &binary)]
        {
            let plan = InboundPlan::parse(&[
                "{id}",
                "edge",
                "t/{topic}!",
                "{_}",
                "{header.tenant}",
                "{header.none}",
                timestamp,
                "{key}",
                "{value}",
            ]);
            let plan = plan.unwrap();
            let expected: [&[u8]; 9] =
                [b"id-1", b"edge", b"t/orders!", b"", b"acme", b"", ms, b"k", b"\x00v"];
            assert_eq!(plan.write(&message(Some(b"k"))), expected);
            assert_eq!(plan.header_frames().collect::<Vec<_>>(), ["tenant", "none"]);
            assert!(!plan.has_any_header());
        }
    }

    #[test]
    fn a_header_with_a_frame_is_not_in_meta_too() {
        let list = ["{topic}", "{meta}", "{header.tenant}", "{key}", "{value}"];
        let plan = InboundPlan::parse(&list).unwrap();
        let record = read_back(&plan, &message(None));
        let names: Vec<_> = record.headers.iter().map(|header| &*header.name).collect();
        assert_eq!(names, [&b"trace"[..], b"tenant"]);
    }
}
