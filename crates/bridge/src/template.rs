//! Texts with fields: what a topic, a key or a header is made of. Pure.

/// Text with fields in braces; `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Topic,
    Key,
    Header(String),
    Group(usize),
}

/// The fields that a template may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// `{topic}`, `{key}`, `{header.NAME}`.
    OfMessage,
    /// `{1}` to `{9}`, up to this number.
    Groups(usize),
}

/// A mistake in a template: what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("a brace without its partner at character {0}; for the brace itself write it twice")]
    Brace(usize),
    /// A field that does not exist here.
    #[error("unknown field `{found}`; allowed: {allowed}")]
    Field {
        /// The text that was found.
        found: String,
        /// The texts that are allowed.
        allowed: String,
    },
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str, fields: Fields) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        let at = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
        while let Some(brace) = rest.find(['{', '}']) {
            literal.push_str(&rest[..brace]);
            rest = &rest[brace..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                literal.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let inside = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let Some((name, after)) = inside.filter(|(name, _)| !name.contains('{')) else {
                return Err(TemplateError::Brace(at(rest)));
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece(name, fields)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// The template of one field, `{key}`.
    pub fn key() -> Self {
        Self(vec![Piece::Key])
    }

    /// The template of one field, `{topic}`.
    pub fn topic() -> Self {
        Self(vec![Piece::Topic])
    }

    /// Returns true if it is text alone.
    pub fn is_constant(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Returns true if it takes the message's topic.
    pub fn has_topic(&self) -> bool {
        self.0.contains(&Piece::Topic)
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Its text, if it is text alone.
    pub fn constant(&self) -> Option<String> {
        self.is_constant().then(|| self.0.iter().map(Piece::text).collect())
    }
}

impl Piece {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }
}

fn piece(name: &str, fields: Fields) -> Result<Piece, TemplateError> {
    let fail = |allowed: &str| {
        Err(TemplateError::Field { found: name.to_owned(), allowed: allowed.to_owned() })
    };
    match fields {
        Fields::OfMessage => match (name, name.strip_prefix("header.")) {
            ("topic", _) => Ok(Piece::Topic),
            ("key", _) => Ok(Piece::Key),
            (_, Some(header)) if !header.is_empty() => Ok(Piece::Header(header.to_owned())),
            _ => fail("topic, key, header.NAME"),
        },
        Fields::Groups(0) => fail("none: the name is no pattern, or its pattern has no group"),
        Fields::Groups(groups) => match name.parse() {
            Ok(group) if (1..=groups.min(9)).contains(&group) => Ok(Piece::Group(group)),
            _ => fail(&format!("1 to {}", groups.min(9))),
        },
    }
}
