//! Walks the tables of a TOML file by the tables of `keys`, and collects every mistake with its
//! place.

mod files;
mod lists;

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::choice::Choice;
use super::expand::expand;
use super::keys::{Key, Presence, Section};
use super::kind::Kind;
use super::mistake::{Mistake, Parsed, Rejected, Warning};

/// Bytes of the file: a begin and an end.
pub type Span = Range<usize>;
type Value<'a> = Spanned<DeValue<'a>>;

/// The context in which a file is read, and the findings.
pub struct Reader<'a> {
    /// The text of the file.
    pub text: &'a str,
    /// The directory that relative paths start from.
    pub directory: &'a Path,
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Mistakes so far.
    pub mistakes: RefCell<Vec<Mistake>>,
    /// Warnings so far.
    pub warnings: RefCell<Vec<Warning>>,
    /// The place of a secret in plain text, if the file has one.
    pub plain_secret: RefCell<Option<(Span, String)>>,
}

/// One table of the file, its keys known to be allowed.
pub struct Table<'r, 'a> {
    reader: &'r Reader<'a>,
    section: &'static Section,
    table: &'r DeTable<'a>,
    span: Span,
}

impl<'a> Reader<'a> {
    /// A mistake at `span`.
    pub fn mistake(
        &self,
        span: &Span,
        key: &str,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        let (line, column) = self.place(span.start);
        let (key, found, allowed) = (key.to_owned(), found.into(), allowed.into());
        self.mistakes.borrow_mut().push(Mistake { line, column, key, found, allowed });
    }

    /// A warning at `span`.
    pub fn warn(&self, span: &Span, key: &str, text: impl Into<String>) {
        let (line, _) = self.place(span.start);
        self.warnings.borrow_mut().push(Warning { line, key: key.to_owned(), text: text.into() });
    }

    /// Line and column of a byte, both from 1.
    pub fn place(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Takes a table up: reports the keys that do not belong to it and those that are missing.
    pub fn table<'r>(
        &'r self,
        section: &'static Section,
        table: &'r DeTable<'a>,
        span: Span,
    ) -> Table<'r, 'a> {
        for (key, _) in table {
            let name = key.get_ref();
            if section.keys.iter().any(|known| known.name == name) {
                continue;
            }
            let found = if section.later.contains(&name.as_ref()) {
                "not available in this version".to_owned()
            } else {
                match nearest(name, section) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => "unknown key".to_owned(),
                }
            };
            let names: Vec<_> = section.keys.iter().map(|known| known.name).collect();
            self.mistake(&key.span(), &path(section, name), found, names.join(", "));
        }
        for key in section.keys {
            if key.presence == Presence::Required && !table.contains_key(key.name) {
                self.mistake(&span, &path(section, key.name), "missing", key.kind.to_string());
            }
        }
        Table { reader: self, section, table, span }
    }

    /// The text of a value with its variables expanded, and the text as it stands in the file.
    fn expanded<'v>(&self, value: &'v Value<'_>) -> Result<(&'v str, String), (String, String)> {
        let DeValue::String(raw) = value.get_ref() else {
            return Err((format!("found {}", describe(value.get_ref())), String::new()));
        };
        match expand(raw, self.variable) {
            Ok(text) => Ok((raw, text)),
            Err(wrong) => Err((wrong.about(raw), wrong.allowed.into_owned())),
        }
    }
}

impl<'r, 'a> Table<'r, 'a> {
    /// The reader that the table belongs to.
    pub fn reader(&self) -> &'r Reader<'a> {
        self.reader
    }

    /// Returns true if a key is there.
    pub fn has(&self, key: &Key) -> bool {
        self.table.contains_key(key.name)
    }

    /// The place of a key's value, or of its table if it is missing.
    pub fn span_of(&self, key: &Key) -> Span {
        self.raw(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// A mistake about a key.
    pub fn mistake(&self, key: &Key, found: impl Into<String>, allowed: impl Into<String>) {
        self.reader.mistake(&self.span_of(key), &path(self.section, key.name), found, allowed);
    }

    /// A warning about a key.
    pub fn warn(&self, key: &Key, text: impl Into<String>) {
        self.reader.warn(&self.span_of(key), &path(self.section, key.name), text);
    }

    /// Reports that a key's value is of another type than the key's.
    fn other_type<T>(&self, key: &Key, value: &DeValue<'_>) -> Option<T> {
        self.mistake(key, format!("found {}", describe(value)), key.kind.to_string());
        None
    }

    /// The value as it stands in the file.
    pub fn raw(&self, key: &Key) -> Option<&'r Value<'a>> {
        self.table.get(key.name)
    }

    /// A text, a number or a time, read by `read` after its variables are expanded; the default if
    /// it is missing.
    pub fn text<T>(&self, key: &Key, read: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let Some(value) = self.raw(key) else {
            return match key.presence {
                Presence::Default(default) => read(default.trim_matches('"')).ok(),
                Presence::Required | Presence::Optional => None,
            };
        };
        self.scalar(key, value, &read)
    }

    /// A whole number or a size, within the key's bounds.
    pub fn number(&self, key: &Key) -> Option<u64> {
        self.text(key, |text| key.kind.number(text))
    }

    /// The same, as memory counts it.
    pub fn count(&self, key: &Key) -> Option<usize> {
        usize::try_from(self.number(key)?).ok()
    }

    /// A duration within the key's bounds, of a key that does not take none.
    pub fn duration(&self, key: &Key) -> Option<Duration> {
        self.duration_or_none(key)?
    }

    /// A duration within the key's bounds, `Some(None)` for none.
    pub fn duration_or_none(&self, key: &Key) -> Option<Option<Duration>> {
        self.text(key, |text| key.kind.duration(text))
    }

    /// The value of a word.
    pub fn choice<T: Copy>(&self, key: &Key, choice: &Choice<T>) -> Option<T> {
        self.text(key, |text| choice.read(text))
    }

    /// A list of texts; `None` if it is missing or has a mistake.
    pub fn list<T>(&self, key: &Key, read: impl Fn(&str) -> Parsed<T>) -> Option<Vec<(T, Span)>> {
        self.items(key, read)?.into_iter().collect()
    }

    /// The texts of a list that can be read; nothing if it is missing.
    pub fn readable<T>(&self, key: &Key, read: impl Fn(&str) -> Parsed<T>) -> Vec<(T, Span)> {
        self.items(key, read).unwrap_or_default().into_iter().flatten().collect()
    }

    /// The items of a list of texts, `None` for one with a mistake.
    fn items<T>(
        &self,
        key: &Key,
        read: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Vec<Option<(T, Span)>>> {
        let items = self.array(key)?;
        if items.is_empty() {
            self.mistake(key, "found an empty list", format!("{}, at least one", key.kind));
            return None;
        }
        let read =
            |item: &Value<'_>| self.scalar(key, item, &read).map(|value| (value, item.span()));
        Some(items.iter().map(read).collect())
    }

    /// A list as it stands in the file; `None` if it is missing or something else.
    fn array(&self, key: &Key) -> Option<&'r DeArray<'a>> {
        match self.raw(key)?.get_ref() {
            DeValue::Array(items) => Some(items),
            other => self.other_type(key, other),
        }
    }

    fn scalar<T>(
        &self,
        key: &Key,
        value: &Value<'_>,
        read: &impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        let span = value.span();
        let report = |found: String, allowed: &str| {
            self.reader.mistake(&span, &path(self.section, key.name), found, allowed);
            None
        };
        let number = key.kind.is_number();
        let (raw, text) = match value.get_ref() {
            DeValue::Integer(integer) if number && integer.radix() == 10 => {
                (integer.as_str(), integer.as_str().replace('_', ""))
            }
            DeValue::Datetime(time) if matches!(key.kind, Kind::Time(_)) => {
                ("this time", time.to_string())
            }
            _ => match self.reader.expanded(value) {
                Ok(both) => both,
                Err((found, allowed)) if allowed.is_empty() => {
                    return report(found, &key.kind.to_string());
                }
                Err((found, allowed)) => return report(found, &allowed),
            },
        };
        match read(&text) {
            Ok(value) => Some(value),
            Err(wrong) => report(about(&wrong, raw, value.get_ref()), &wrong.allowed),
        }
    }

    /// A table inside this one.
    pub fn table(&self, key: &Key, section: &'static Section) -> Option<Table<'r, 'a>> {
        let value = self.raw(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.reader.table(section, table, value.span())),
            other => self.other_type(key, other),
        }
    }

    /// The names and texts of a free table; those with a mistake are reported and left out.
    pub fn texts(&self, key: &Key, read: impl Fn(&str) -> Parsed<String>) -> Vec<(String, String)> {
        let Some(value) = self.raw(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            return self.other_type(key, value.get_ref()).unwrap_or_default();
        };
        let pairs = table.iter();
        pairs
            .filter_map(|(name, value)| {
                Some((name.get_ref().to_string(), self.scalar(key, value, &read)?))
            })
            .collect()
    }

    /// `true` or `false`; the default if it is missing.
    pub fn flag(&self, key: &Key) -> Option<bool> {
        match self.raw(key).map(Spanned::get_ref) {
            None => Some(key.presence == Presence::Default("true")),
            Some(DeValue::Boolean(truth)) => Some(*truth),
            Some(other) => self.other_type(key, other),
        }
    }

    /// Reports a mistake in a part of a key's value.
    pub fn mistake_at(
        &self,
        span: &Span,
        key: &Key,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.reader.mistake(span, &path(self.section, key.name), found, allowed);
    }

    /// Reports that none of some keys is there, which `by` requires.
    pub fn require(&self, keys: &[&Key], by: &str) {
        if let Some(first) = keys.first()
            && !keys.iter().any(|key| self.has(key))
        {
            let names: Vec<_> = keys.iter().map(|key| key.name).collect();
            self.mistake(first, "missing", format!("{} is required by {by}", names.join(" or ")));
        }
    }

    /// Reports each key that is not among the allowed ones: `found` says why.
    pub fn allow_only(&self, allowed: &[&Key], found: &str) {
        let names: Vec<_> = allowed.iter().map(|key| key.name).collect();
        for key in self.section.keys {
            if self.has(key) && !names.contains(&key.name) {
                self.mistake(key, found, names.join(", "));
            }
        }
    }

    /// Reports a key that says nothing without another one, which is not there.
    pub fn only_with(&self, key: &Key, other: &Key) {
        if self.has(key) && !self.has(other) {
            let (found, name) = (format!("`{}` is missing", other.name), other.name);
            self.mistake(key, found, format!("only together with `{name}`"));
        }
    }
}

fn about(wrong: &Rejected, raw: &str, value: &DeValue<'_>) -> String {
    match (value, &wrong.why) {
        (DeValue::String(_), _) => wrong.about(raw),
        (_, Some(why)) => format!("found {raw}: {why}"),
        (_, None) => format!("found {raw}"),
    }
}

fn path(section: &Section, key: &str) -> String {
    if section.path.is_empty() { key.to_owned() } else { format!("{}.{key}", section.path) }
}

fn nearest(name: &str, section: &Section) -> Option<&'static str> {
    let near = section
        .keys
        .iter()
        .map(|key| (strsim::damerau_levenshtein(name, key.name), key.name))
        .min()?;
    (near.0 <= 2.max(near.1.len() / 3) && near.0 < near.1.len()).then_some(near.1)
}

/// A value's type, and the value if it is short and no text.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(integer) => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(_) => "a time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
