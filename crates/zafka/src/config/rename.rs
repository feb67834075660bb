//! `rename` of `from.kafka` and `to.kafka`.

use regex::Regex;
use zafka_bridge::rename::Rename;
use zafka_bridge::template::{Fields, Template};
use zafka_kafka::config::TopicSelector;

use super::keys::Key;
use super::reader::{Span, Table};

/// The pairs of `rename` that could be read. `wrong` tells what is allowed for a new name without
/// fields that cannot be used.
pub fn list(
    table: &Table<'_, '_>,
    key: &Key,
    wrong: impl Fn(&str) -> Option<&'static str>,
) -> Vec<Rename> {
    table.pairs(key).iter().filter_map(|pair| one(table, key, pair, &wrong)).collect()
}

fn one(
    table: &Table<'_, '_>,
    key: &Key,
    [(from, from_at), (to, to_at)]: &[(String, Span); 2],
    wrong: &impl Fn(&str) -> Option<&'static str>,
) -> Option<Rename> {
    let mistake = |at: &Span, found: String, allowed: &str| {
        table.mistake_at(at, key, found, allowed);
        None
    };
    let (from, groups) = if from.starts_with('^') {
        if !from.ends_with('$') {
            return mistake(
                from_at,
                format!("found {from:?}"),
                "a pattern begins with ^ and ends with $",
            );
        }
        match Regex::new(from) {
            Ok(pattern) => {
                let groups = pattern.captures_len() - 1;
                (TopicSelector::Pattern(pattern), groups)
            }
            Err(_) => {
                let found = format!("{from:?} is not a regular expression");
                return mistake(from_at, found, "the syntax of the Rust crate regex");
            }
        }
    } else {
        (TopicSelector::Name(from.clone()), 0)
    };
    match Template::parse(to, Fields::Groups(groups)) {
        Ok(template) => match template.constant().as_deref().and_then(wrong) {
            None => Some(Rename { from, to: template }),
            Some(allowed) => mistake(to_at, format!("found {to:?}"), allowed),
        },
        Err(error) => {
            mistake(to_at, format!("{to:?}: {error}"), "the new name, with {1} to {9} for groups")
        }
    }
}
