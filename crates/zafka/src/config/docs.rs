//! Writes `docs/configuration.md` from the tables of `keys`. The test fails if the file is stale;
//! with `UPDATE_DOCS=1` it writes the file.

use std::fmt::Write;
use std::path::PathBuf;

use super::keys::*;

const SECTIONS: &[&Section] = &[
    &TOP,
    &KAFKA_SECTION,
    &SECURITY_SECTION,
    &TLS_SECTION,
    &SASL_SECTION,
    &ASSERTION_SECTION,
    &ADMIN_SECTION,
    &IDENTITY_SECTION,
    &ISSUER_SECTION,
    &INTROSPECTION_SECTION,
    &EXCHANGE_SECTION,
    &ACCESS_SECTION,
    &ROUTE_SECTION,
    &FROM_SECTION,
    &FROM_KAFKA_SECTION,
    &TO_SECTION,
    &TO_ZMQ_SECTION,
    &HEARTBEAT_SECTION,
    &FROM_ZMQ_SECTION,
    &ENDPOINT_SECTION,
    &TO_KAFKA_SECTION,
];

const INTRODUCTION: &str = include_str!("docs/introduction.md");

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

fn render() -> String {
    let example = std::fs::read_to_string(path("examples/zafka.toml")).unwrap();
    let mut out = format!("{INTRODUCTION}\n```toml\n{example}```\n");
    for section in SECTIONS {
        let title = match section.path {
            "" => "Top level".to_owned(),
            path => format!("`{path}`"),
        };
        write!(out, "\n## {title}\n\n{}\n\n", section.doc).unwrap();
        out.push_str("| key | takes | default | what for |\n|---|---|---|---|\n");
        for key in section.keys {
            let default = match key.presence {
                Presence::Required => "required".to_owned(),
                Presence::Optional => "-".to_owned(),
                Presence::Default(default) => format!("`{default}`"),
            };
            writeln!(out, "| `{}` | {} | {default} | {} |", key.name, key.kind, key.doc).unwrap();
        }
    }
    out
}

#[test]
fn the_page_is_fresh() {
    let page = path("configuration.md");
    let rendered = render();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &rendered).unwrap();
    }
    let found = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(found == rendered, "docs/configuration.md is stale: UPDATE_DOCS=1 cargo test -p zafka");
}

#[test]
fn every_section_is_on_the_page() {
    let (source, sections) = (include_str!("keys.rs"), include_str!("keys/sections.rs"));
    assert_eq!(sections.matches(": Section =").count(), SECTIONS.len());
    // Sockets of both directions share some.
    let keys = SECTIONS.iter().flat_map(|section| section.keys).map(|key| std::ptr::from_ref(*key));
    let keys = keys.collect::<std::collections::HashSet<_>>().len();
    let is_key = |line: &&str| {
        line.contains(" = \"") && line.trim_start().starts_with(|c: char| c.is_uppercase())
    };
    let rows = source.lines().filter(is_key).count();
    assert_eq!(keys, rows, "a key belongs to no section");
}
