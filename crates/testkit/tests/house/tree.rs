//! The modules of a crate, as its files declare them. Tests are left out.

use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Item, ItemMod, Meta};

/// A module with the items of its own.
pub struct Module {
    /// Its names from the root, which has none.
    pub path: Vec<String>,
    pub items: Vec<Item>,
}

/// All modules of the crate in this folder, the root first.
pub fn modules(folder: &Path) -> Vec<Module> {
    let root = ["src/lib.rs", "src/main.rs"].map(|file| folder.join(file));
    let mut modules = Vec::new();
    let Some(root) = root.into_iter().find(|file| file.exists()) else { return modules };
    let source = folder.join("src");
    add(&mut modules, Vec::new(), parse(&root), &source);
    modules
}

fn parse(file: &Path) -> Vec<Item> {
    let text = fs::read_to_string(file).unwrap();
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).items
}

/// Adds a module, and those that it declares; their files are in `folder`.
fn add(modules: &mut Vec<Module>, path: Vec<String>, items: Vec<Item>, folder: &Path) {
    let items: Vec<_> = items.into_iter().filter(|item| !is_test(attributes(item))).collect();
    let (children, items) = items.into_iter().partition(|item| matches!(item, Item::Mod(_)));
    modules.push(Module { path: path.clone(), items });
    for child in children {
        let Item::Mod(ItemMod { ident, content, .. }) = child else { continue };
        let name = ident.to_string();
        let inside = folder.join(&name);
        let items = match content {
            Some((_, items)) => items,
            None => parse(&file_of(folder, &name)),
        };
        let path = path.iter().cloned().chain([name]).collect();
        add(modules, path, items, &inside);
    }
}

/// The file of a module: `name.rs`, beside `name/` if it has modules of its own, never `mod.rs`.
fn file_of(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(format!("{name}.rs"));
    assert!(file.exists(), "no {}: a module's file is called so", file.display());
    file
}

/// Returns true if something is there for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            text.split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
                && !text.contains("not")
        }
        other => other.path().is_ident("test"),
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
