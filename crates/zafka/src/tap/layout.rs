//! The layout of an endpoint's messages, as the user gives it.

use zafka_envelope::{FramePlan, Preset, TemplateDecoder};

use crate::cli::{Frames, UsageError};

/// The value of `--frames`.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// A preset.
    Preset(Preset),
    /// A list of templates.
    Templates(TemplateDecoder),
}

impl Layout {
    /// Reads `--frames`.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn parse(values: &[String]) -> Result<Self, UsageError> {
        let templates = match Frames::read(values)? {
            Frames::Preset(preset) => return Ok(Self::Preset(preset)),
            Frames::Templates(templates) => templates,
        };
        let plan = FramePlan::parse(&templates).map_err(|mistakes| Frames::mistakes(&mistakes))?;
        // A list of templates has a decoder; the preset `batch` is no such list.
        Ok(plan.decoder().map_or(Self::Preset(Preset::Batch), Self::Templates))
    }
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
