//! The `lib.rs` of each crate says what it is for, and shows it by an example that is compiled.

use std::fs;

use crate::crates;

/// The header of a file: its lines that begin with `//!`, from the first on.
fn header(text: &str) -> Vec<&str> {
    text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect()
}

/// Returns true if a header begins with a sentence and has an example that is compiled.
fn is_open(header: &[&str]) -> bool {
    let has_example = header.iter().any(|line| ["```", "```no_run"].contains(line));
    header.first().is_some_and(|line| !line.is_empty()) && has_example
}

#[test]
fn each_crate_shows_itself() {
    let libraries: Vec<_> = crates().into_iter().map(|folder| folder.join("src/lib.rs")).collect();
    let libraries: Vec<_> = libraries.into_iter().filter(|path| path.exists()).collect();
    assert!(libraries.len() > 8, "only {libraries:?}");
    let closed = libraries.iter().filter(|path| {
        let text = fs::read_to_string(path).unwrap();
        !is_open(&header(&text))
    });
    let closed: Vec<_> = closed.collect();
    assert!(closed.is_empty(), "without a sentence or a compiled example: {closed:#?}");
}

#[test]
fn an_example_is_known_by_its_fence() {
    for (text, is_shown) in [
        ("//! Does.\n//!\n//! ```\n//! f();\n//! ```\n", true),
        ("//! Does.\n//! ```no_run\n//! f();\n//! ```\n", true),
        ("//! Does.\n//! ```ignore\n//! f();\n", false),
        ("//! Does.\n\n//! ```\n", false),
        ("use f;\n", false),
    ] {
        assert_eq!(is_open(&header(text)), is_shown, "{text}");
    }
}
