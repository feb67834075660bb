//! Changes of topics' names, the same in both directions. Pure.

use std::borrow::Cow;

use regex::Regex;
use zafka_kafka::config::TopicSelector;

use crate::template::{Piece, Template};

/// One change of a topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The names it changes; a pattern has to match the whole name.
    pub from: TopicSelector,
    /// The new name, with `{1}` to `{9}` for the pattern's groups.
    pub to: Template,
}

/// The name of a topic after the first change that is for it; its own if none is.
pub fn renamed<'a>(changes: &[Rename], topic: &'a str) -> Cow<'a, str> {
    let change = |rename: &Rename| rename.apply(topic);
    changes.iter().find_map(change).map_or(Cow::Borrowed(topic), Cow::Owned)
}

impl Rename {
    /// The new name of a topic, if this change is for it.
    fn apply(&self, topic: &str) -> Option<String> {
        let pattern = match &self.from {
            TopicSelector::Name(name) => {
                return (name == topic).then(|| self.to.constant().unwrap_or_default());
            }
            TopicSelector::Pattern(pattern) => pattern,
        };
        let groups = pattern.captures(topic).filter(|groups| &groups[0] == topic)?;
        let text = |piece: &Piece| match piece {
            Piece::Group(group) => groups.get(*group).map_or("", |group| group.as_str()).to_owned(),
            piece => piece.text().to_owned(),
        };
        Some(self.to.pieces().iter().map(text).collect())
    }
}

/// Returns true if a pattern matches all of a text.
pub(crate) fn is_whole_match(pattern: &Regex, text: &str) -> bool {
    pattern.find(text).is_some_and(|found| found.len() == text.len())
}
