//! Templates: what parses alike, and every mistake with its place.

use zafka_envelope::{FramePlan, MAX_FRAMES, Mistake, Preset};

#[test]
fn lists_that_are_presets() {
    for (list, preset) in [
        (&["{topic}", "{meta}", "{key}", "{value}"][..], Preset::Json),
        (&["{topic}", "{packed}"], Preset::Packed),
        (&["{topic}", "{value}"], Preset::Value),
    ] {
        assert_eq!(FramePlan::parse(list), Ok(FramePlan::preset(preset)));
    }
    assert_eq!(FramePlan::default(), FramePlan::preset(Preset::Json));
    for preset in Preset::ALL {
        assert_eq!(preset.to_string().parse(), Ok(preset));
    }
    let error = "jason".parse::<Preset>().unwrap_err();
    assert_eq!(error.to_string(), "unknown preset `jason`; allowed: json, packed, batch, value");
}

#[test]
fn the_same_written_otherwise() {
    for (one, other) in [
        ("{offset}", "{offset:dec}"),
        ("{header.a}", "{header.\"a\"}"),
        ("{header.trace.id}", "{header.\"trace.id\"}"),
        ("$value", "$value"),
    ] {
        assert_eq!(FramePlan::parse(&[one, ""]), FramePlan::parse(&[other, ""]), "{one} {other}");
    }
    assert_ne!(FramePlan::parse(&["{offset}"]), FramePlan::parse(&["{offset:u32le}"]));
}

#[test]
fn each_mistake_has_its_place() {
    let unknown = |name: &str| Mistake::UnknownField(name.to_owned());
    let not_allowed = |field: &str, format: &str| Mistake::FormatNotAllowed {
        field: field.to_owned(),
        format: format.to_owned(),
    };
    let cases = [
        ("{topik}", 1, unknown("topik")),
        ("{}", 1, unknown("")),
        ("{ topic }", 1, unknown(" topic ")),
        ("{Topic}", 1, unknown("Topic")),
        ("{batch}", 1, unknown("batch")),
        ("{header}", 1, unknown("header")),
        ("{prev}", 1, unknown("prev")),
        ("üü{x}", 3, unknown("x")),
        ("{offset:u16}", 7, Mistake::UnknownFormat(":u16"[1..].to_owned())),
        ("{offset:}", 7, Mistake::UnknownFormat(String::new())),
        ("{topic:dec}", 6, not_allowed("topic", "dec")),
        ("{header.a:dec}", 9, not_allowed("header.a", "dec")),
        ("a{topic", 1, Mistake::Unclosed),
        ("{", 0, Mistake::Unclosed),
        ("{{{", 2, Mistake::Unclosed),
        ("{header.\"a\"", 0, Mistake::Unclosed),
        ("a}b", 1, Mistake::LoneClosingBrace),
        ("}}}", 2, Mistake::LoneClosingBrace),
        ("{header.}", 1, Mistake::NoHeaderName),
        ("{header.\"a}", 8, Mistake::UnclosedQuote),
        ("{header.\"a\":dec}", 11, Mistake::AfterQuote(":dec".to_owned())),
    ];
    for (template, position, mistake) in cases {
        let mistakes = FramePlan::parse(&["{topic}", template]).unwrap_err();
        let found: Vec<_> =
            mistakes.into_iter().map(|m| (m.frame, m.position, m.mistake)).collect();
        assert_eq!(found, [(Some(1), position, mistake)], "{template}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mistakes =
        FramePlan::parse(&["{topik}-{offset:u8}}", "{value}", "{key {meta:dec}"]).unwrap_err();
    let text: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "frame 1, character 2: unknown field `topik`; allowed: topic, partition, offset, \
             timestamp, key, value, header.NAME, meta, packed, route",
            "frame 1, character 16: unknown format `u8`; allowed: u32le, u32be, u64le, u64be, dec",
            "frame 1, character 20: `}` without `{`; for the brace itself write `}}`",
            "frame 3, character 1: `{` without `}`; for the brace itself write `{{`",
            "frame 3, character 11: `meta` takes no format, found `:dec`; allowed on: partition, \
             offset, timestamp",
        ]
    );
}

#[test]
fn the_list_itself() {
    let many = vec!["{value}"; MAX_FRAMES + 1];
    assert!(FramePlan::parse(&many[1..]).is_ok());
    for (list, message) in [
        (&[][..], "the list of frames is empty; allowed: 1 to 64 frames"),
        (&many, "65 frames; allowed: 1 to 64 frames"),
        (&["json"], "`json` is a preset: write it as a text, not as a list"),
    ] {
        let mistakes = FramePlan::parse(list).unwrap_err();
        assert_eq!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(), [message]);
    }
    assert!(FramePlan::parse(&["value", "{value}"]).is_ok(), "beside others it is a literal");
}
