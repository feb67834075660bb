//! Keys whose values are lists of more than texts.

use toml::de::DeValue;

use super::super::keys::{Key, Section};
use super::super::mistake::Parsed;
use super::{Span, Table, Value, describe, path};

impl<'r, 'a> Table<'r, 'a> {
    /// A list of pairs of texts; those with a mistake are reported and left out.
    pub fn pairs(&self, key: &Key) -> Vec<[(String, Span); 2]> {
        let Some(items) = self.array(key) else { return Vec::new() };
        let pair = |item: &Value<'_>| {
            let texts = match item.get_ref() {
                DeValue::Array(texts) => texts.iter().collect::<Vec<_>>(),
                _ => Vec::new(),
            };
            let [one, other] = texts[..] else {
                let found = format!("found {}", describe(item.get_ref()));
                self.reader.mistake(
                    &item.span(),
                    &path(self.section, key.name),
                    found,
                    "a pair of texts",
                );
                return None;
            };
            let text = |value| self.scalar(key, value, &|text| Ok(text.to_owned()));
            Some([(text(one)?, one.span()), (text(other)?, other.span())])
        };
        items.iter().filter_map(pair).collect()
    }

    /// The tables of a list of tables; what is none is reported and left out.
    pub fn tables(&self, key: &Key, section: &'static Section) -> Vec<Table<'r, 'a>> {
        let Some(items) = self.array(key) else { return Vec::new() };
        let table = |item: &'r Value<'a>| match item.get_ref() {
            DeValue::Table(table) => Some(self.reader.table(section, table, item.span())),
            other => {
                self.mistake_at(
                    &item.span(),
                    key,
                    format!("found {}", describe(other)),
                    key.kind.to_string(),
                );
                None
            }
        };
        items.iter().filter_map(table).collect()
    }

    /// The readable part of a list of texts and tables; nothing if it is missing.
    pub fn texts_or_tables<T>(
        &self,
        key: &Key,
        section: &'static Section,
        read: impl Fn(&str) -> Parsed<T>,
        read_table: impl Fn(&Table<'_, 'a>) -> Option<T>,
    ) -> Vec<(T, Span)> {
        let Some(items) = self.array(key) else { return Vec::new() };
        if items.is_empty() {
            self.mistake(key, "found an empty list", format!("{}, at least one", key.kind));
        }
        let item = |item: &'r Value<'a>| {
            let read = match item.get_ref() {
                DeValue::Table(table) => {
                    read_table(&self.reader.table(section, table, item.span()))
                }
                _ => self.scalar(key, item, &read),
            };
            read.map(|read| (read, item.span()))
        };
        items.iter().filter_map(item).collect()
    }

    /// The values of a claim that count: one, or those of a list.
    pub fn claim_values(&self, key: &Key, value: &Value<'_>) -> Option<Vec<serde_json::Value>> {
        let one = |item: &Value<'_>| {
            let allowed = "a text, a number, true, false, or a list of these";
            match item.get_ref() {
                DeValue::String(_) => {
                    self.scalar(key, item, &|text| Ok(serde_json::Value::from(text)))
                }
                DeValue::Boolean(truth) => Some((*truth).into()),
                DeValue::Integer(integer) if integer.radix() == 10 => {
                    let number = integer.as_str().replace('_', "").parse::<i64>().ok();
                    if number.is_none() {
                        self.mistake_at(&item.span(), key, "found a large number", allowed);
                    }
                    number.map(Into::into)
                }
                other => {
                    let found = format!("found {}", describe(other));
                    self.mistake_at(&item.span(), key, found, allowed);
                    None
                }
            }
        };
        let DeValue::Array(items) = value.get_ref() else { return one(value).map(|one| vec![one]) };
        if items.is_empty() {
            self.mistake_at(&value.span(), key, "found an empty list", "at least one value");
            return None;
        }
        // Each mistake is told.
        let values: Vec<_> = items.iter().map(one).collect();
        values.into_iter().collect()
    }
}
