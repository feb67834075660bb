//! Parses the list of templates for inbound messages.

use super::{Field, FrameReader, InboundLayout, InboundPlan};
use crate::plan::parse_list;
use crate::template::{Direction, Format, Piece, Template};
use crate::{FramePlanError, Mistake, Preset};

/// The first frame of a command (`docs/protocol.md`); a message that begins so is never a record.
const COMMAND_WORD: &[u8] = b"ZAFKA/1";

impl InboundPlan {
    /// The plan of a preset: what [`FramePlan::preset`](crate::FramePlan::preset) writes is
    /// restored.
    pub fn preset(preset: Preset) -> Self {
        let fields: &[Field] = match preset {
            Preset::Json => &[Field::Topic, Field::Meta, Field::Key, Field::Value],
            Preset::Packed => &[Field::Topic, Field::Packed],
            Preset::Value => &[Field::Topic, Field::Value],
            Preset::Batch => return Self { layout: InboundLayout::Batch },
        };
        let alone = |field: &Field| FrameReader {
            before: Vec::new(),
            field: Some(field.clone()),
            after: Vec::new(),
        };
        Self { layout: InboundLayout::Frames(fields.iter().map(alone).collect()) }
    }

    /// Parses a list of templates, one for each frame.
    ///
    /// # Errors
    /// Every mistake of the list, in the order in which they stand in it.
    pub fn parse<S: AsRef<str>>(templates: &[S]) -> Result<Self, Vec<FramePlanError>> {
        let mut mistakes = Vec::new();
        let templates = parse_list(Direction::Inbound, templates, &mut mistakes);
        let frames: Vec<_> = (templates.iter().enumerate())
            .map(|(index, template)| frame(index, template, &mut mistakes))
            .collect();
        check_list(&frames, &mut mistakes);
        mistakes.sort_by_key(|mistake| mistake.frame.map_or(0, |frame| frame + 1));
        if mistakes.is_empty() {
            Ok(Self { layout: InboundLayout::Frames(frames) })
        } else {
            Err(mistakes)
        }
    }
}

impl Default for InboundPlan {
    fn default() -> Self {
        Self::preset(Preset::Json)
    }
}

fn frame(index: usize, template: &Template, mistakes: &mut Vec<FramePlanError>) -> FrameReader {
    let mut reader = FrameReader { before: Vec::new(), field: None, after: Vec::new() };
    let mut mistake = |mistake| mistakes.push(at_frame(index, mistake));
    for piece in &template.0 {
        match field(piece) {
            Ok(None) => {}
            Ok(found) if reader.field.is_none() => reader.field = found,
            Ok(_) => {}
            Err(wrong) => mistake(wrong),
        }
        if let Piece::Literal(text) = piece {
            let side = if reader.field.is_some() { &mut reader.after } else { &mut reader.before };
            side.extend_from_slice(text.as_bytes());
        }
    }
    let fields = template.0.iter().filter(|piece| !matches!(piece, Piece::Literal(_))).count();
    if fields > 1 {
        mistake(Mistake::SeveralFields(fields));
    }
    let is_alone = template.0.len() == 1;
    if reader.field == Some(Field::Id) && (index > 0 || !is_alone) {
        mistake(Mistake::IdPlace);
    }
    if index == 0 && reader.field.is_none() && reader.before == COMMAND_WORD {
        mistake(Mistake::CommandWord);
    }
    reader
}

/// The field of a piece; none of a literal.
fn field(piece: &Piece) -> Result<Option<Field>, Mistake> {
    Ok(Some(match piece {
        Piece::Literal(_) => return Ok(None),
        Piece::Topic => Field::Topic,
        Piece::Key => Field::Key,
        Piece::Value => Field::Value,
        Piece::Header(name) => Field::Header(name.clone()),
        Piece::Timestamp(Format::U32Le | Format::U32Be) => return Err(Mistake::HalfTimestamp),
        Piece::Timestamp(format) => Field::Timestamp(*format),
        Piece::Meta => Field::Meta,
        Piece::Packed => Field::Packed,
        Piece::Id => Field::Id,
        Piece::Ignored => Field::Ignored,
        Piece::Route => return Err(Mistake::NotInbound("route".to_owned())),
        Piece::Partition(_) => return Err(Mistake::NotInbound("partition".to_owned())),
        Piece::Offset(_) => return Err(Mistake::NotInbound("offset".to_owned())),
    }))
}

/// Checks what concerns several frames together.
fn check_list(frames: &[FrameReader], mistakes: &mut Vec<FramePlanError>) {
    let has = |name| {
        frames.iter().any(|frame| frame.field.as_ref().is_some_and(|field| field.name() == name))
    };
    for (index, reader) in frames.iter().enumerate() {
        let Some(field) = &reader.field else { continue };
        let repeats =
            |other: &FrameReader| other.field.as_ref().is_some_and(|o| o.name() == field.name());
        let may_repeat = matches!(field, Field::Header(_) | Field::Ignored);
        if !may_repeat && frames[..index].iter().any(repeats) {
            mistakes.push(at_frame(index, Mistake::RepeatedField(field.name())));
        }
        let beside_packed =
            matches!(field, Field::Packed | Field::Id | Field::Topic | Field::Ignored);
        if has("packed") && !beside_packed {
            mistakes.push(at_frame(index, Mistake::BesidePacked(field.name())));
        }
    }
    if mistakes.is_empty() && !has("value") && !has("packed") {
        mistakes.push(FramePlanError { frame: None, position: 0, mistake: Mistake::NoValue });
    }
}

fn at_frame(index: usize, mistake: Mistake) -> FramePlanError {
    FramePlanError { frame: Some(index), position: 0, mistake }
}

impl Field {
    /// Its name in a template.
    fn name(&self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Topic => "topic",
            Self::Key => "key",
            Self::Value => "value",
            Self::Header(_) => "header",
            Self::Timestamp(_) => "timestamp",
            Self::Meta => "meta",
            Self::Packed => "packed",
            Self::Ignored => "_",
        }
    }
}
