//! Imports between the modules of a crate: by `use` declarations and by paths in its code,
//! re-exports followed to where the thing is defined. Paths within macro calls are not seen.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Item, Path, UseTree, VisRestricted};

use crate::tree::Module;

type Names = Vec<String>;

/// The uses between modules of one crate.
pub struct Imports {
    modules: BTreeSet<Names>,
    /// Names that each module gives to something by a `use`, with the path from the root.
    aliases: BTreeMap<Names, BTreeMap<String, Names>>,
}

impl Imports {
    /// Reads the `use` declarations of these modules.
    pub fn new(modules: &[Module]) -> Self {
        let mut imports = Self {
            modules: modules.iter().map(|module| module.path.clone()).collect(),
            aliases: BTreeMap::new(),
        };
        for module in modules {
            let mut aliases = BTreeMap::new();
            for item in &module.items {
                if let Item::Use(item) = item {
                    leaves(&item.tree, &mut Vec::new(), &mut |name, path| {
                        if let Some(path) = imports.absolute(&module.path, path) {
                            aliases.insert(name, path);
                        }
                    });
                }
            }
            imports.aliases.insert(module.path.clone(), aliases);
        }
        imports
    }

    /// The modules in which the things are defined that `module` uses.
    pub fn of(&self, module: &Module) -> BTreeSet<Names> {
        let aliases = &self.aliases[&module.path];
        let mut found: BTreeSet<_> =
            aliases.values().filter_map(|path| self.definition(path.clone())).collect();
        let mut paths = Paths::default();
        module.items.iter().for_each(|item| paths.visit_item(item));
        for path in paths.0 {
            if let Some(alias) = aliases.get(&path[0]) {
                found.extend(self.definition([&alias[..], &path[1..]].concat()));
            } else if let Some(path) = self.absolute(&module.path, &path) {
                found.extend(self.definition(path));
            }
        }
        found.remove(&module.path);
        found
    }

    /// The path from the root of one that is written in `module`; `None` if it leads elsewhere.
    fn absolute(&self, module: &Names, path: &[String]) -> Option<Names> {
        let mut base = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while let [first, others @ ..] = rest
                    && first == "super"
                {
                    base.pop()?;
                    rest = others;
                }
                return Some([&base[..], rest].concat());
            }
            child => {
                let inside = [&base[..], &[child.to_owned()]].concat();
                return self.modules.contains(&inside).then(|| [&base[..], path].concat());
            }
        }
        Some([&base[..], &rest[1..]].concat())
    }

    /// The module that defines what a path from the root names.
    fn definition(&self, mut path: Names) -> Option<Names> {
        // A re-export may lead to another one; more than a few would be a circle.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|&n| self.modules.contains(&path[..n]))?;
            let (module, rest) = path.split_at(depth);
            let alias = rest.first().and_then(|name| self.aliases.get(module)?.get(name));
            match alias {
                Some(alias) => path = [&alias[..], &rest[1..]].concat(),
                None => return Some(module.to_vec()),
            }
        }
        None
    }
}

/// Hands out each name that a `use` declares, with its path.
fn leaves(tree: &UseTree, path: &mut Names, found: &mut impl FnMut(String, &[String])) {
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            leaves(&part.tree, path, found);
            path.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            found(path.last().cloned().unwrap_or_default(), path);
        }
        UseTree::Name(name) => {
            path.push(name.ident.to_string());
            found(name.ident.to_string(), path);
            path.pop();
        }
        UseTree::Rename(rename) => {
            path.push(rename.ident.to_string());
            // Of those named `_` each counts.
            let name = if rename.rename == "_" { path.concat() } else { rename.rename.to_string() };
            found(name, path);
            path.pop();
        }
        UseTree::Glob(_) => found(format!("{}::*", path.concat()), path),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, found)),
    }
}

/// The paths of more than one name in some code.
#[derive(Default)]
struct Paths(Vec<Names>);

impl Visit<'_> for Paths {
    fn visit_path(&mut self, path: &Path) {
        let names: Names = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 && path.leading_colon.is_none() {
            self.0.push(names);
        }
        visit::visit_path(self, path);
    }

    /// `pub(in crate::x)` uses nothing.
    fn visit_vis_restricted(&mut self, _: &VisRestricted) {}
}
