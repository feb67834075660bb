//! The house rules that a compiler does not hold: words, names, and who knows whom.
//!
//! What does not keep a rule yet is listed beside it. A list shrinks and does not grow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod circles;
mod columns;
mod front_doors;
mod imports;
mod names;
mod pages;
mod prose;
mod reasons;
mod tree;
mod words;

use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The crates, by folder.
fn crates() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|path| path.join("Cargo.toml").exists()).collect();
    folders.push(root().join("bench"));
    folders.sort();
    folders
}
