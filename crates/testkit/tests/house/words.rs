//! Retired words, and one spelling: `words.txt` has them, with what is used in their place.

use std::fs;
use std::path::{Path, PathBuf};

use regex::{Regex, RegexBuilder};

use crate::root;

/// Files that are looked at, by the end of their name.
const TEXT: &[&str] = &[
    "rs",
    "md",
    "toml",
    "py",
    "js",
    "go",
    "java",
    "c",
    "h",
    "yml",
    "yaml",
    "sh",
    "service",
    "run",
    "assemble",
    "check",
    "Containerfile",
];
/// Folders and files that are not: what is made, what tells of the past, and the list itself.
const LEFT_OUT: &[&str] =
    &[".git", "target", "node_modules", "venv", "corpus", "results", "CHANGELOG.md"];

struct Word {
    regex: Regex,
    /// The part of the repository in which it is retired: the beginning of a path from the root.
    within: String,
    instead: String,
}

/// Lines of `REGEX | PATH | INSTEAD`; `#` begins a comment.
fn words() -> Vec<Word> {
    let lines = include_str!("words.txt").lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let word = |(number, line): (usize, &str)| {
        // The expression may have bars of its own.
        let (rest, instead) = line.rsplit_once(" | ").unwrap_or_else(|| panic!("{number}: {line}"));
        let (regex, within) = rest.rsplit_once(" | ").unwrap_or_else(|| panic!("{number}: {line}"));
        let regex = RegexBuilder::new(regex.trim()).case_insensitive(true).build().unwrap();
        Word { regex, within: within.trim().to_owned(), instead: instead.trim().to_owned() }
    };
    lines.map(word).collect()
}

/// Collects the text files under a folder.
pub fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if TEXT.contains(&name.rsplit('.').next().unwrap()) {
            found.push(path);
        }
    }
}

#[test]
fn no_retired_word_is_used() {
    let (root, words, mut paths) = (root(), words(), Vec::new());
    files(&root, &mut paths);
    assert!(paths.len() > 300, "only {} files", paths.len());
    let mut faults = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let here = words.iter().filter(|word| word.within == "*" || name.starts_with(&word.within));
        for word in here.filter(|word| word.regex.is_match(&text)) {
            for (number, line) in text.lines().enumerate() {
                if let Some(found) = word.regex.find(line) {
                    let (number, found) = (number + 1, found.as_str());
                    faults.push(format!("{name}:{number}: {found:?}: {}", word.instead));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} retired words:\n{}", faults.len(), faults.join("\n"));
}
