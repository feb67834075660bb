//! How the messages of an endpoint are laid out, as the user says.

use toml::de::{DeTable, DeValue};
use zafka_envelope::{FramePlan, Preset, TemplateDecoder};

use crate::cli::UsageError;

/// What `--frames` says.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// A preset.
    Preset(Preset),
    /// A list of templates.
    Templates(TemplateDecoder),
}

impl Layout {
    /// Reads `--frames`: a preset's name; templates, one each time; or a list as it stands in a
    /// configuration file.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn parse(values: &[String]) -> Result<Self, UsageError> {
        if let [one] = values
            && !one.contains('{')
        {
            let preset = one.parse().map_err(|_| {
                let allowed =
                    "json, packed, batch, value, or templates such as {topic} {value}, one each time";
                UsageError(format!("--frames: found {one:?}; allowed: {allowed}"))
            });
            return preset.map(Self::Preset);
        }
        let templates = match values {
            [one] => list(one).unwrap_or_else(|| vec![one.clone()]),
            many => many.to_vec(),
        };
        let plan = FramePlan::parse(&templates).map_err(|mistakes| {
            let mistakes: Vec<_> =
                mistakes.iter().map(|mistake| format!("--frames: {mistake}")).collect();
            UsageError(mistakes.join("\n"))
        })?;
        // A list of templates has a decoder; the preset `batch` is no such list.
        Ok(plan.decoder().map_or(Self::Preset(Preset::Batch), Self::Templates))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Result<Layout, String> {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        Layout::parse(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn presets_templates_and_lists() {
        assert!(matches!(parse(&["packed"]), Ok(Layout::Preset(Preset::Packed))));
        let read = |values: &[&str]| match parse(values) {
            Ok(Layout::Templates(decoder)) => decoder.decode(&[b"orders", b"17"]).unwrap().offset,
            other => panic!("{values:?}: {other:?}"),
        };
        assert_eq!(read(&["{topic}", "{offset}"]), Some(17));
        assert_eq!(read(&[r#"["{topic}", '{offset}']"#]), Some(17));
        // A template may look like a list.
        assert!(matches!(parse(&["[{topic}]"]), Ok(Layout::Templates(_))));
    }

    #[test]
    fn mistakes() {
        for (values, told) in [
            (&["xml"][..], "found \"xml\"; allowed: json, packed, batch, value"),
            (&["{topik}", "{x"], "frame 1, character 2: unknown field `topik`"),
            (&["{topik}", "{x"], "frame 2, character 1: `{` without `}`"),
            (&[r#"["{topik}"]"#], "frame 1, character 2: unknown field `topik`"),
        ] {
            let error = parse(values).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
