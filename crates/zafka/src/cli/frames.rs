//! `--frames`: the layout of messages, as `tap` and `send` take it.

use toml::de::{DeTable, DeValue};
use zafka_envelope::Preset;

use super::UsageError;

/// The value of `--frames`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// A preset.
    Preset(Preset),
    /// A list of templates.
    Templates(Vec<String>),
}

impl Frames {
    /// Reads `--frames`: a preset's name; templates, one each time; or a list as it stands in a
    /// configuration file.
    ///
    /// # Errors
    /// A name that is none of a preset.
    pub fn read(values: &[String]) -> Result<Self, UsageError> {
        match values {
            [one] if !one.contains('{') => one.parse().map(Self::Preset).map_err(|_| {
                let allowed =
                    "json, packed, batch, value, or templates such as {topic} {value}, one each \
                     time";
                UsageError(format!("--frames: found {one:?}; allowed: {allowed}"))
            }),
            [one] => Ok(Self::Templates(list(one).unwrap_or_else(|| vec![one.clone()]))),
            many => Ok(Self::Templates(many.to_vec())),
        }
    }

    /// An error of usage with all mistakes of a list, each on a line.
    pub fn mistakes<M: std::fmt::Display>(mistakes: &[M]) -> UsageError {
        let lines: Vec<_> = mistakes.iter().map(|mistake| format!("--frames: {mistake}")).collect();
        UsageError(lines.join("\n"))
    }
}

/// The texts of a TOML array of texts, such as `["{topic}", "{value}"]`.
fn list(text: &str) -> Option<Vec<String>> {
    let text = format!("frames = {text}");
    let table = DeTable::parse(&text).ok()?;
    let DeValue::Array(items) = table.get_ref().get("frames")?.get_ref() else { return None };
    let texts = items.iter().map(|item| match item.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    });
    texts.collect()
}
