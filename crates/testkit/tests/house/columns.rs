//! Lines of the code have at most 100 columns: comments and texts too, which rustfmt leaves alone.

use std::fs;

use crate::root;
use crate::words::files;

/// The longest line, in characters, as `rustfmt.toml` and `.editorconfig` have it.
const COLUMNS: usize = 100;

/// Returns true if a line is too long. One with a raw text in it is data, and may be: a raw text
/// cannot go on in the next line. What is a word alone, as a URL, cannot either.
fn is_refused(line: &str) -> bool {
    let words = line.split_whitespace().filter(|word| !word.starts_with("//"));
    line.chars().count() > COLUMNS && !line.contains("r#\"") && words.count() > 1
}

#[test]
fn no_line_is_longer_than_a_hundred_columns() {
    let (root, mut paths) = (root(), Vec::new());
    files(&root, &mut paths);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(paths.len() > 300, "only {} files", paths.len());
    let mut faults = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| is_refused(line)) {
            let columns = line.chars().count();
            faults.push(format!("{name}:{number}: {columns} columns, allowed: {COLUMNS}"));
        }
    }
    assert!(faults.is_empty(), "{} long lines:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn only_raw_texts_and_single_words_are_longer() {
    let word = "w".repeat(COLUMNS);
    for refused in [format!("    \"a {word}\","), format!("// a {word}"), format!("a\t{word}")] {
        assert!(is_refused(&refused), "{refused}");
    }
    let fits = format!("a {}", "é".repeat(COLUMNS - 2));
    let raw = format!("    let text = r#\"{word}\"#;");
    for taken in [fits, raw, format!("    /// {word}x"), format!("    {word}")] {
        assert!(!is_refused(&taken), "{taken}");
    }
}
