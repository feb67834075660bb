//! Frame templates: literal text with fields in braces, parsed once.
//!
//! `{{` and `}}` are braces. A field is `{name}` or, for numbers, `{name:format}`.

use crate::{FramePlanError, Mistake};

/// One frame: its pieces in order, no two literals side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(pub(crate) Vec<Piece>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(String),
    Topic,
    Route,
    Partition(Format),
    Offset(Format),
    Timestamp(Format),
    Key,
    Value,
    Header(String),
    Meta,
    Packed,
    /// The sender's name for its message; inbound only.
    Id,
    /// A frame that is left out; inbound only.
    Ignored,
}

/// The direction of the messages of a list of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Records become messages.
    Outbound,
    /// Messages become records.
    Inbound,
}

/// The format of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Decimal,
    U32Le,
    U32Be,
    U64Le,
    U64Be,
}

impl Format {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "dec" => Self::Decimal,
            "u32le" => Self::U32Le,
            "u32be" => Self::U32Be,
            "u64le" => Self::U64Le,
            "u64be" => Self::U64Be,
            _ => return None,
        })
    }

    /// Reads what [`Format::put`] wrote; `None` if `bytes` are no such number. A u32 is none: half
    /// of the number is missing.
    pub(crate) fn read(self, bytes: &[u8]) -> Option<i64> {
        match self {
            Self::Decimal => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Self::U64Le => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
            Self::U64Be => Some(i64::from_be_bytes(bytes.try_into().ok()?)),
            Self::U32Le | Self::U32Be => None,
        }
    }

    /// Appends `number`; a u32 is its low half.
    #[inline]
    pub(crate) fn put(self, out: &mut Vec<u8>, number: i64) {
        match self {
            Self::Decimal => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            Self::U32Le => out.extend_from_slice(&(number as u32).to_le_bytes()),
            Self::U32Be => out.extend_from_slice(&(number as u32).to_be_bytes()),
            Self::U64Le => out.extend_from_slice(&number.to_le_bytes()),
            Self::U64Be => out.extend_from_slice(&number.to_be_bytes()),
        }
    }
}

impl Template {
    /// Parses the template of frame number `frame` (from 0), adding its mistakes to `mistakes`.
    pub(crate) fn parse(
        direction: Direction,
        frame: usize,
        text: &str,
        mistakes: &mut Vec<FramePlanError>,
    ) -> Self {
        let (pieces, literal) = (Vec::new(), String::new());
        let mut parser = Parser { direction, frame, text, at: 0, pieces, literal, mistakes };
        parser.template();
        Self(parser.pieces)
    }
}

struct Parser<'a> {
    direction: Direction,
    frame: usize,
    text: &'a str,
    /// Byte position of what is read next.
    at: usize,
    pieces: Vec<Piece>,
    literal: String,
    mistakes: &'a mut Vec<FramePlanError>,
}

impl<'a> Parser<'a> {
    fn template(&mut self) {
        while let Some(brace) = self.rest().find(['{', '}']) {
            let (text, at) = (self.text, self.at);
            self.literal.push_str(&text[at..at + brace]);
            self.at += brace;
            if self.take("{{") {
                self.literal.push('{');
            } else if self.take("}}") {
                self.literal.push('}');
            } else if self.take("}") {
                self.mistake(self.at - 1, Mistake::LoneClosingBrace);
            } else {
                self.end_literal();
                self.field();
            }
        }
        self.literal.push_str(&self.text[self.at..]);
        self.end_literal();
    }

    /// Reads one field; `at` is its opening brace.
    fn field(&mut self) {
        let open = self.at;
        self.at += 1;
        if self.take("header.\"") {
            return self.quoted_header(open);
        }
        let rest = self.rest();
        let Some(end) = rest.find(['{', '}']).filter(|&end| rest[end..].starts_with('}')) else {
            self.mistake(open, Mistake::Unclosed);
            // The next brace may open a field with a mistake of its own.
            self.at += rest.find('{').unwrap_or(rest.len());
            return;
        };
        let start = self.at;
        self.at += end + 1;
        let inside = &rest[..end];
        let (name, format) = match inside.split_once(':') {
            Some((name, format)) => (name, Some(format)),
            None => (inside, None),
        };
        match piece(self.direction, name, format) {
            Ok(piece) => self.pieces.push(piece),
            Err(mistake @ (Mistake::UnknownFormat(_) | Mistake::FormatNotAllowed { .. })) => {
                self.mistake(start + name.len(), mistake);
            }
            Err(mistake) => self.mistake(start, mistake),
        }
    }

    /// Reads a header name after its opening quote, to the closing brace.
    fn quoted_header(&mut self, open: usize) {
        let quote = self.at - 1;
        let mut name = String::new();
        loop {
            let rest = self.rest();
            let Some(end) = rest.find('"') else {
                self.at = self.text.len();
                return self.mistake(quote, Mistake::UnclosedQuote);
            };
            name.push_str(&rest[..end]);
            self.at += end + 1;
            if !self.take("\"") {
                break;
            }
            name.push('"');
        }
        let rest = self.rest();
        match rest.find('}') {
            Some(0) => self.pieces.push(Piece::Header(name)),
            Some(end) => self.mistake(self.at, Mistake::AfterQuote(rest[..end].to_owned())),
            None => self.mistake(open, Mistake::Unclosed),
        }
        self.at += rest.find('}').map_or(rest.len(), |end| end + 1);
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(&mut self.literal)));
        }
    }

    fn mistake(&mut self, byte: usize, mistake: Mistake) {
        let position = self.text[..byte].chars().count();
        self.mistakes.push(FramePlanError { frame: Some(self.frame), position, mistake });
    }
}

/// The piece for a field's name and format, as they stand in the braces.
fn piece(direction: Direction, name: &str, format: Option<&str>) -> Result<Piece, Mistake> {
    let number = || match format {
        None => Ok(Format::Decimal),
        Some(format) => {
            Format::parse(format).ok_or_else(|| Mistake::UnknownFormat(format.to_owned()))
        }
    };
    let piece = match name {
        "partition" => return number().map(Piece::Partition),
        "offset" => return number().map(Piece::Offset),
        "timestamp" => return number().map(Piece::Timestamp),
        "topic" => Piece::Topic,
        "route" => Piece::Route,
        "key" => Piece::Key,
        "value" => Piece::Value,
        "meta" => Piece::Meta,
        "packed" => Piece::Packed,
        "id" if direction == Direction::Inbound => Piece::Id,
        "_" if direction == Direction::Inbound => Piece::Ignored,
        _ => match name.strip_prefix("header.") {
            Some("") => return Err(Mistake::NoHeaderName),
            Some(header) => Piece::Header(header.to_owned()),
            None if direction == Direction::Inbound => {
                return Err(Mistake::UnknownInboundField(name.to_owned()));
            }
            None => return Err(Mistake::UnknownField(name.to_owned())),
        },
    };
    match format {
        None => Ok(piece),
        Some(format) => {
            Err(Mistake::FormatNotAllowed { field: name.to_owned(), format: format.to_owned() })
        }
    }
}
