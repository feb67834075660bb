//! The program takes what the documents show: every configuration, frame list and command of
//! theirs.

use std::path::Path;

use clap::Parser;
use zafka_envelope::FramePlan;

use super::{CheckArgs, Cli, Command, check};
use crate::relay_url;

const PAGES: [&str; 7] = [
    "README.md",
    "docs/tour.md",
    "docs/envelope.md",
    "docs/ingest.md",
    "docs/configuration.md",
    "docs/operations.md",
    "docs/security.md",
];

/// The fenced blocks of these languages, each with its page.
fn blocks(languages: &[&str]) -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    for page in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page);
        let text = std::fs::read_to_string(path).unwrap();
        for block in text.split("\n```").skip(1).step_by(2) {
            let (language, content) = block.split_once('\n').unwrap();
            if languages.contains(&language) {
                blocks.push((page, content.to_owned()));
            }
        }
    }
    blocks
}

/// The words of a shell command up to a pipe, a redirection or a comment.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            '#' | '|' | '>' | '<' if !quoted && word.is_none() => break,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[test]
fn configurations_have_no_mistakes() {
    let mut pages = Vec::new();
    for (page, text) in blocks(&["toml"]) {
        // Those with keys need files, and are read by the tests of `[identity]`.
        if !text.contains("[[route]]") || text.contains("[identity]") {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("zafka.toml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        check(&CheckArgs { config, connect: false }, &mut out, &mut err).unwrap();
        let [out, err] = [out, err].map(|text| String::from_utf8(text).unwrap());
        assert!(out.ends_with(": no mistakes\n"), "{page}: {out}{err}");
        // The limit of open files is this machine's.
        let warned =
            out.lines().any(|line| line.contains("warning") && !line.contains("max_peers"));
        assert!(!warned, "{page}: {out}");
        pages.push(page);
    }
    assert!(pages.contains(&"README.md") && pages.contains(&"docs/configuration.md"), "{pages:?}");
}

#[test]
fn frame_lists_are_plans() {
    let mut count = 0;
    for (page, text) in blocks(&["toml"]) {
        for list in text.lines().filter_map(|line| line.strip_prefix("frames = ")) {
            // Such a list is JSON too.
            let templates: Vec<String> = serde_json::from_str(list).unwrap();
            assert!(FramePlan::parse(&templates).is_ok(), "{page}: {list}");
            count += 1;
        }
    }
    assert!(count >= 3, "only {count}");
}

/// The commands that the pages show, each with its page and line.
pub(crate) fn commands() -> Vec<(String, Command)> {
    let mut commands = Vec::new();
    for (page, text) in blocks(&["sh"]) {
        let text = text.replace("\\\n", " ");
        for line in text.lines().flat_map(|line| line.split(" | ")) {
            let words = words(line);
            let arguments = match words.iter().position(|word| word == "--") {
                Some(dashes) if words[0] == "cargo" && words[1] == "run" => &words[dashes + 1..],
                None if words
                    .first()
                    .is_some_and(|word| word.rsplit('/').next() == Some("zafka")) =>
                {
                    &words[1..]
                }
                _ => continue,
            };
            let parsed = Cli::try_parse_from(
                std::iter::once("zafka").chain(arguments.iter().map(String::as_str)),
            );
            let command = parsed.unwrap_or_else(|error| panic!("{page}: {line}: {error}")).command;
            commands.push((format!("{page}: {line}"), command));
        }
    }
    commands
}

#[test]
fn commands_are_understood() {
    let seen: Vec<_> = commands()
        .into_iter()
        .map(|(line, command)| match command {
            Command::Relay(args) => {
                let relay = relay_url::relay(&args.source, &args.destination, None);
                assert!(relay.is_ok(), "{line}: {relay:?}");
                "relay"
            }
            Command::Check(args) if args.connect => "check --connect",
            Command::Check(_) => "check",
            Command::Run(_) => "run",
            Command::Tap(_) => "tap",
            Command::Send(_) => "send",
            Command::Access(_) => "access",
            Command::Login(_) => "login",
            Command::Enrol(_) => "enrol",
            Command::Leases(_) => "leases",
            Command::Revoke(_) => "revoke",
            Command::Keygen(_) => "keygen",
            Command::Demo(_) => "demo",
            Command::Health(_) => "health",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        })
        .collect();
    for command in [
        "relay",
        "check --connect",
        "check",
        "run",
        "tap",
        "send",
        "access",
        "login",
        "enrol",
        "leases",
        "revoke",
        "keygen",
        "demo",
        "health",
        "completions",
        "man",
    ] {
        assert!(seen.contains(&command), "no page shows {command}: {seen:?}");
    }
}

#[test]
fn the_example_of_the_help_is_understood() {
    let line = super::RELAY_HELP.lines().find(|line| line.starts_with("  zafka")).unwrap();
    let Command::Relay(args) = Cli::try_parse_from(words(line)).unwrap().command else {
        panic!("{line}")
    };
    assert!(relay_url::relay(&args.source, &args.destination, None).is_ok());
}
