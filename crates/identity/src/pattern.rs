//! Topics that a rule names: a name, or a pattern for the whole name, with claims in both.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::claims::{ClaimName, Claims};

/// Memory that one pattern may take when it is compiled, in bytes.
const PATTERN_BYTES: usize = 256 * 1024;

/// The reason why a text names no topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A pattern without the beginning and the end of a name.
    #[error("a pattern that is not anchored allows more than it shows; write /^...$/")]
    NotAnchored,
    /// Not a regular expression.
    #[error("not a regular expression: {0}")]
    Regex(String),
    /// A name that no topic has.
    #[error("not a topic's name: {0}")]
    Name(&'static str),
    /// A brace that belongs to no claim.
    #[error("{{ and }} hold the name of a claim")]
    Brace,
}

/// Topics that a rule names.
#[derive(Clone, Debug)]
pub struct TopicPattern {
    parts: Vec<Part>,
    is_regex: bool,
    /// The matcher, if no claim is needed to know it.
    fixed: Option<Matcher>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(ClaimName),
}

/// Topics that one peer may use.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Name(String),
    Regex(Regex),
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one == other,
            (Self::Regex(one), Self::Regex(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Regex(regex) => {
                // As it stands in the rule.
                let text = regex.as_str();
                let inner = text.strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$"));
                write!(f, "/{}/", inner.unwrap_or(text))
            }
        }
    }
}

impl Matcher {
    pub(crate) fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => name == topic,
            Self::Regex(regex) => regex.is_match(topic),
        }
    }
}

/// Compared by their texts.
impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.parts, self.is_regex) == (&other.parts, other.is_regex)
    }
}

impl TopicPattern {
    /// Takes a name, or a pattern between slashes. `{claim}` stands for the peer's claim.
    ///
    /// # Errors
    /// What is neither.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let inner = text.strip_prefix('/').map(|inner| inner.strip_suffix('/'));
        let (inner, is_regex) = match inner {
            Some(Some(inner)) => (inner, true),
            Some(None) => return Err(PatternError::Name("a pattern ends with a slash")),
            None => (text, false),
        };
        if is_regex && !(inner.starts_with('^') && inner.ends_with('$')) {
            return Err(PatternError::NotAnchored);
        }
        let parts = split(inner, is_regex)?;
        // With a claim of one letter it shows whether the rest of it is right.
        let tried = matcher(&put_together(&parts, is_regex, |_| Some("x".to_owned())), is_regex)?;
        let needs_claims = parts.iter().any(|part| matches!(part, Part::Claim(_)));
        Ok(Self { parts, is_regex, fixed: (!needs_claims).then_some(tried) })
    }

    /// Returns the claims that stand in it.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &ClaimName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Claim(name) => Some(name),
        })
    }

    /// The topics that a peer with these claims is meant by; `None` if a claim that is needed is
    /// missing, or is nothing that may be part of a topic's name.
    pub(crate) fn for_claims(&self, claims: &Claims) -> Option<Matcher> {
        if let Some(fixed) = &self.fixed {
            return Some(fixed.clone());
        }
        let text = put_together(&self.parts, self.is_regex, |name| claims.part_of_a_name(name));
        matcher(&text, self.is_regex).ok()
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.is_regex { "/" } else { "" };
        f.write_str(slash)?;
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Claim(name) => write!(f, "{{{}}}", name.as_str())?,
            }
        }
        f.write_str(slash)
    }
}

/// Parts text and claims. In a pattern, braces of its own stay: a repetition such as `{2,3}`, and
/// what follows `\p`, `\P`, `\x`, `\u` and `\U`.
fn split(text: &str, is_regex: bool) -> Result<Vec<Part>, PatternError> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(open);
        plain.push_str(before);
        let Some((inside, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}'))
        else {
            // `\}` or a brace in a class is the regular expression's own affair.
            if !is_regex {
                return Err(PatternError::Brace);
            }
            let (brace, after) = from.split_at(1);
            plain.push_str(brace);
            rest = after;
            continue;
        };
        let repeats = inside.chars().all(|c| c.is_ascii_digit() || c == ',');
        let escaped = plain.ends_with('\\')
            || ["\\p", "\\P", "\\x", "\\u", "\\U"].iter().any(|escape| plain.ends_with(escape));
        if is_regex && (repeats || escaped) {
            plain.push_str(&from[..inside.len() + 2]);
        } else {
            let name = ClaimName::parse(inside).ok_or(PatternError::Brace)?;
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(Part::Claim(name));
        }
        rest = after;
    }
    plain.push_str(rest);
    parts.push(Part::Text(plain));
    parts.retain(|part| *part != Part::Text(String::new()));
    Ok(parts)
}

/// Puts the text together; `None` if a claim has no text.
fn put_together(
    parts: &[Part],
    is_regex: bool,
    claim: impl Fn(&ClaimName) -> Option<String>,
) -> Option<String> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Claim(name) if is_regex => text.push_str(&regex::escape(&claim(name)?)),
            Part::Claim(name) => text.push_str(&claim(name)?),
        }
    }
    Some(text)
}

fn matcher(text: &Option<String>, is_regex: bool) -> Result<Matcher, PatternError> {
    let Some(text) = text else { return Err(PatternError::Brace) };
    if is_regex {
        // The anchors of `^a|b$` hold for one alternative each: here they hold for all of them.
        let whole = match zafka_planted::is("alternatives-are-open") {
            true => format!("^{text}$"),
            false => format!("^(?:{text})$"),
        };
        let regex = RegexBuilder::new(&whole).size_limit(PATTERN_BYTES).build();
        return regex.map(Matcher::Regex).map_err(|error| PatternError::Regex(regex_fault(&error)));
    }
    if text.starts_with("__") {
        return Err(PatternError::Name("an internal topic"));
    }
    match name_fault(text) {
        None => Ok(Matcher::Name(text.clone())),
        Some(fault) => Err(PatternError::Name(fault)),
    }
}

/// The fault of a name by Kafka's rule for topics, if it has one.
pub fn name_fault(name: &str) -> Option<&'static str> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name {
        "" => Some("empty"),
        "." | ".." => Some("\".\" and \"..\" are not names"),
        name if name.len() > 249 => Some("longer than 249 characters"),
        name if !name.bytes().all(fine) => {
            Some("a name is made of letters, digits, '.', '_' and '-'")
        }
        _ => None,
    }
}

/// The last line of what is wrong with a regular expression: those before it show the place.
pub fn regex_fault(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims() -> Claims {
        let others = [
            ("tenant".to_owned(), json!("acme-1")),
            ("dotted".to_owned(), json!("a.b")),
            ("deep".to_owned(), json!({ "er": 7 })),
        ];
        Claims::new("https://id", "alice", others)
    }

    #[test]
    fn topics_of_a_peer() {
        for (pattern, allowed, denied) in [
            ("orders", vec!["orders"], vec!["orders2", "order", "xorders", ""]),
            ("edge.{tenant}", vec!["edge.acme-1"], vec!["edge.acme-12", "edge.", "edge.{tenant}"]),
            ("{sub}.{/deep/er}", vec!["alice.7"], vec!["alice", "alice.77"]),
            (
                "/^payments\\.{tenant}\\.[a-z]+$/",
                vec!["payments.acme-1.eu"],
                vec![
                    "payments.acme-1.",
                    "payments.acme-2.eu",
                    "xpayments.acme-1.eu",
                    "payments.acme-1.eu.x",
                ],
            ),
            // Each alternative is anchored.
            ("/^a|b$/", vec!["a", "b"], vec!["ab", "ax", "xb"]),
            ("/^a{2,3}$/", vec!["aa", "aaa"], vec!["a", "aaaa", "a{2,3}"]),
            ("/^\\p{Lu}$/", vec!["A"], vec!["a"]),
            ("/^x(?m)^y$/", vec![], vec!["x\ny", "xy"]),
            ("/^.*$/", vec!["", "anything"], vec!["two\nlines"]),
        ] {
            let parsed = TopicPattern::parse(pattern).unwrap();
            assert_eq!(parsed.to_string(), pattern);
            let matcher = parsed.for_claims(&claims()).unwrap();
            for topic in allowed {
                assert!(matcher.matches(topic), "{pattern}: {topic}");
            }
            for topic in denied {
                assert!(!matcher.matches(topic), "{pattern}: {topic}");
            }
        }
    }

    #[test]
    fn a_claim_that_is_no_part_of_a_name_leaves_the_entry_out() {
        for pattern in ["t.{dotted}", "/^t\\.{dotted}$/", "{none}", "{deep}", "/^{none}.*$/"] {
            assert!(TopicPattern::parse(pattern).unwrap().for_claims(&claims()).is_none());
        }
    }

    #[test]
    fn what_names_no_topics() {
        for (pattern, error) in [
            ("/orders/", PatternError::NotAnchored),
            ("/^orders/", PatternError::NotAnchored),
            ("/orders$/", PatternError::NotAnchored),
            ("//", PatternError::NotAnchored),
            ("/^a$", PatternError::Name("a pattern ends with a slash")),
            ("", PatternError::Name("empty")),
            ("__consumer_offsets", PatternError::Name("an internal topic")),
            ("a b", PatternError::Name("a name is made of letters, digits, '.', '_' and '-'")),
            ("a{", PatternError::Brace),
            ("a}", PatternError::Brace),
            ("a{}", PatternError::Brace),
        ] {
            assert_eq!(TopicPattern::parse(pattern).unwrap_err(), error, "{pattern}");
        }
        let error = TopicPattern::parse("/^(a$/").unwrap_err();
        assert!(matches!(error, PatternError::Regex(_)), "{error}");
        let large = TopicPattern::parse("/^(a{1000}){1000}$/").unwrap_err();
        assert!(matches!(large, PatternError::Regex(_)), "{large}");
    }
}
