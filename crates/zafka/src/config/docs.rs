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

const INTRODUCTION: &str = r#"# Configuration

<!-- Generated from crates/zafka/src/config/keys.rs: UPDATE_DOCS=1 cargo test -p zafka -->

`zafka run -c FILE` reads a TOML file. `zafka check -c FILE` tells every mistake in it, with its line, what was found
and what is allowed.

## Values

- In every text `${VAR}` is the environment variable VAR, which must be set; `${VAR:-default}` has a default for a
  variable that is unset or empty; `$$` is a dollar. A dollar before anything else stands for itself. Keys are not
  expanded.
- A duration is a text such as `"5s"`, `"500ms"` or `"1m 30s"`.
- A size is a number of bytes, or a text with a unit: `"64KiB"`, `"16MiB"`, `"1GiB"`.
- A number may be given as a text, so that a variable can hold it: `min_peers = "${MIN_PEERS:-1}"`.
- A secret is a text, best `"${VAR}"`; or use its `_file` key, whose file holds the secret and at most one newline after
  it. Secrets are never printed.
- A relative path starts at the directory of the configuration file.
- A topic is a name, or a regular expression between slashes. It is searched for in the name: anchor it with `^` and `$`
  where it must match the whole.

An unknown key is a mistake. Two routes of one group must not read the same topic: the group would divide its
partitions between them.

## Example
"#;

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
