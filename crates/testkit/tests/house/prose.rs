//! Doc comments begin with a verb in the third person or with a noun.

use std::fs;

use crate::root;
use crate::words::files;

/// Words that no doc comment begins with: what follows one of them has no subject, or no verb.
const NOT_FIRST: &[&str] = &[
    "how",
    "what",
    "whatever",
    "when",
    "whenever",
    "where",
    "wherever",
    "whether",
    "which",
    "whichever",
    "who",
    "whoever",
    "whom",
    "whose",
    "why",
];

/// The first lines of doc comments, with their numbers from 1.
fn first_lines(text: &str) -> Vec<(usize, &str)> {
    let (mut first, mut before) = (Vec::new(), None);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        let mark = ["///", "//!"].into_iter().find(|mark| line.starts_with(mark));
        if let Some(mark) = mark.filter(|_| mark != before && !line.starts_with("////")) {
            first.push((number, line[mark.len()..].trim()));
        }
        before = mark;
    }
    first
}

/// Returns true if `line` begins as no doc comment does.
fn is_refused(line: &str) -> bool {
    let word = line.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    NOT_FIRST.contains(&word.to_lowercase().as_str())
}

#[test]
fn doc_comments_begin_with_a_verb_or_a_noun() {
    let (root, mut paths) = (root(), Vec::new());
    files(&root, &mut paths);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let (mut count, mut faults) = (0, Vec::new());
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in first_lines(&text) {
            count += 1;
            if is_refused(line) {
                faults.push(format!("{name}:{number}: {line}"));
            }
        }
    }
    assert!(count > 2000, "only {count} doc comments");
    assert!(faults.is_empty(), "{} doc comments:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_doc_comment_is_known_by_its_first_line() {
    let text =
        "//! Knows.\n//! What it knows.\n\n/// Why.\n/// Because.\nfn why() {}\n\n    /// Whether.";
    assert_eq!(first_lines(text), [(1, "Knows."), (4, "Why."), (8, "Whether.")]);
    for refused in ["What it is.", "Whether: yes", "Why.", "where it is"] {
        assert!(is_refused(refused), "{refused}");
    }
    for taken in ["Whatnots.", "Returns what it is.", "`What`", "", "However, it is."] {
        assert!(!is_refused(taken), "{taken}");
    }
}
