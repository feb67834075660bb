//! A route's envelope: a preset or a list of frame templates, parsed once.

use std::str::FromStr;

use crate::template::{Direction, Piece, Template};
use crate::{FramePlanError, Mistake, UnknownPreset};

/// The most frames that a message may have.
pub const MAX_FRAMES: usize = 64;

/// A named envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// `{topic}` `{meta}` `{key}` `{value}`: the default.
    Json,
    /// `{topic}` `{packed}`.
    Packed,
    /// The topic, then many packed records in one frame.
    Batch,
    /// `{topic}` `{value}`.
    Value,
}

impl Preset {
    /// Every preset, in the order of the specification.
    pub const ALL: [Self; 4] = [Self::Json, Self::Packed, Self::Batch, Self::Value];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Packed => "packed",
            Self::Batch => "batch",
            Self::Value => "value",
        }
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| UnknownPreset(name.to_owned()))
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The plan by which records become messages. The default is the preset `json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlan {
    pub(crate) layout: Layout,
}

/// The frames of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A message for each record; at least one frame.
    Frames(Vec<Template>),
    /// Many packed records to a message.
    Batch,
}

impl FramePlan {
    /// The plan of a preset.
    pub fn preset(preset: Preset) -> Self {
        let frames: &[Piece] = match preset {
            Preset::Json => &[Piece::Topic, Piece::Meta, Piece::Key, Piece::Value],
            Preset::Packed => &[Piece::Topic, Piece::Packed],
            Preset::Value => &[Piece::Topic, Piece::Value],
            Preset::Batch => return Self { layout: Layout::Batch },
        };
        let templates = frames.iter().map(|piece| Template(vec![piece.clone()])).collect();
        Self { layout: Layout::Frames(templates) }
    }

    /// Parses a list of templates, one for each frame.
    ///
    /// # Errors
    /// Every mistake of the list, in the order in which they stand in it.
    pub fn parse<S: AsRef<str>>(templates: &[S]) -> Result<Self, Vec<FramePlanError>> {
        let mut mistakes = Vec::new();
        let frames = parse_list(Direction::Outbound, templates, &mut mistakes);
        if mistakes.is_empty() {
            Ok(Self { layout: Layout::Frames(frames) })
        } else {
            Err(mistakes)
        }
    }

    /// The body of the routing frame of a partition, by the topic's name in it; `None` if it
    /// differs from record to record.
    pub fn routing_frame(&self, route: &str, topic: &str, partition: i32) -> Option<Vec<u8>> {
        match &self.layout {
            Layout::Batch => Some(topic.as_bytes().to_vec()),
            Layout::Frames(frames) => frames.first()?.constant(Place { route, topic, partition }),
        }
    }
}

/// Parses each template of a list and checks its length.
pub(crate) fn parse_list<S: AsRef<str>>(
    direction: Direction,
    templates: &[S],
    mistakes: &mut Vec<FramePlanError>,
) -> Vec<Template> {
    let of_list = |mistake| FramePlanError { frame: None, position: 0, mistake };
    match templates {
        [] => mistakes.push(of_list(Mistake::NoFrames)),
        // A message of nothing but that word is not what was meant.
        [one] if one.as_ref().parse::<Preset>().is_ok() => {
            mistakes.push(of_list(Mistake::PresetInList(one.as_ref().to_owned())));
        }
        many if many.len() > MAX_FRAMES => {
            mistakes.push(of_list(Mistake::TooManyFrames(many.len())))
        }
        _ => {}
    }
    let frames = templates.iter().enumerate();
    frames.map(|(i, text)| Template::parse(direction, i, text.as_ref(), mistakes)).collect()
}

impl Default for FramePlan {
    fn default() -> Self {
        Self::preset(Preset::Json)
    }
}

/// The facts that do not change within a partition.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) route: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
}

impl Place<'_> {
    /// Appends the piece if it does not change within a partition; else returns false.
    pub(crate) fn put(self, out: &mut Vec<u8>, piece: &Piece) -> bool {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Topic => out.extend_from_slice(self.topic.as_bytes()),
            Piece::Route => out.extend_from_slice(self.route.as_bytes()),
            Piece::Partition(format) => format.put(out, self.partition.into()),
            _ => return false,
        }
        true
    }
}

impl Template {
    /// The frame's body if it does not change within a partition.
    pub(crate) fn constant(&self, place: Place<'_>) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        self.0.iter().all(|piece| place.put(&mut body, piece)).then_some(body)
    }
}
