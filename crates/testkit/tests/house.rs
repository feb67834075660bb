//! The shape of the source code: no circles between the modules of a crate, one type of a name in
//! it, and the words of Kafka and ZeroMQ.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates whose modules have no circles but between parent and child, and where no two types have
/// one name.
const CRATES: &[&str] = &["kafka"];

/// Words that gave way to Kafka's or ZeroMQ's, by the crate that they are refused in.
const RETIRED: &[(&str, &[&str])] = &[(
    "kafka",
    &[
        "Share",
        "Member",
        "Told",
        "Home",
        "Wiring",
        "Terms",
        "Given",
        "Outlet",
        "Asker",
        "Board",
        "Noise",
        "TakeUp",
        "TakenUp",
        "StillWanted",
        "Lives",
        "made_anew",
        "set_back",
        "scout",
        "take_up",
        "taken_up",
    ],
)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a crate that are not tests, by their module paths.
fn modules(name: &str) -> BTreeMap<Vec<String>, String> {
    let src = root().join(name).join("src");
    let (mut dirs, mut found) = (vec![src.clone()], BTreeMap::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let relative = path.strip_prefix(&src).unwrap().with_extension("");
            let mut module: Vec<String> =
                relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            let is_test = |part: &String| matches!(&**part, "tests" | "testing" | "bench");
            if path.extension().is_none_or(|extension| extension != "rs")
                || module.iter().any(is_test)
            {
                continue;
            }
            if matches!(&**module.last().unwrap(), "mod" | "lib" | "main") {
                module.pop();
            }
            found.insert(module, production(&fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The code without comments and without the unit tests at its end.
fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths of a `use` tree.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, inner)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inner = inner.trim().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let paths = parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(expand);
    paths.map(|path| format!("{prefix}{path}")).collect()
}

/// Whether this is a re-export, with the tree.
fn uses(code: &str) -> Vec<(bool, String)> {
    let statements = code.split(';').filter_map(|statement| {
        let line = statement.lines().position(|line| {
            let line = line.trim_start();
            line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "))
        })?;
        let rest: Vec<&str> = statement.lines().skip(line).collect();
        let (before, tree) =
            rest.join(" ").split_once("use ").map(|(a, b)| (a.to_owned(), b.to_owned()))?;
        Some((before.trim_start().starts_with("pub"), tree))
    });
    statements.collect()
}

/// Paths that begin at the crate or above, wherever they stand. Those with a list at their end are
/// the business of [`uses`].
fn inline(code: &str) -> Vec<String> {
    let starts = ["crate::", "super::"]
        .into_iter()
        .flat_map(|start| code.match_indices(start).map(|(at, _)| at).collect::<Vec<_>>());
    let is_path = |character: char| character.is_alphanumeric() || matches!(character, '_' | ':');
    let paths = starts.map(|at| code[at..].chars().take_while(|next| is_path(*next)).collect());
    paths.filter(|path: &String| !path.ends_with(':')).collect()
}

struct Graph {
    modules: BTreeMap<Vec<String>, String>,
    /// Names that a module re-exports, with their paths.
    exports: BTreeMap<(Vec<String>, String), Vec<String>>,
}

impl Graph {
    fn of(name: &str) -> Self {
        let mut graph = Self { modules: modules(name), exports: BTreeMap::new() };
        let mut exports = BTreeMap::new();
        for (module, code) in &graph.modules {
            for (_, tree) in uses(code).iter().filter(|(is_export, _)| *is_export) {
                for path in expand(tree).iter().filter_map(|path| graph.absolute(module, path)) {
                    exports.insert((module.clone(), path.last().unwrap().clone()), path);
                }
            }
        }
        graph.exports = exports;
        graph
    }

    /// The path from the crate's root, if it is in the crate.
    fn absolute(&self, module: &[String], path: &str) -> Option<Vec<String>> {
        let path: Vec<String> = path
            .split("::")
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect();
        let mut base = module.to_vec();
        match &**path.first()? {
            "crate" => return Some(path[1..].to_vec()),
            "self" => return Some([&base[..], &path[1..]].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                base.truncate(base.len().checked_sub(ups)?);
                return Some([&base[..], &path[ups..]].concat());
            }
            _ => {}
        }
        let inner = [&base[..], &path[..1]].concat();
        self.modules.contains_key(&inner).then(|| [&base[..], &path[..]].concat())
    }

    /// The module that an item is defined in.
    fn module_of(&self, path: &[String], depth: usize) -> Vec<String> {
        for end in 0..path.len() {
            let (module, name) = (path[..end].to_vec(), &path[end]);
            if self.modules.contains_key(&path[..=end]) {
                continue;
            }
            return match self.exports.get(&(module.clone(), name.clone())) {
                Some(target) if depth < 9 && target != path => {
                    self.module_of(&[target, &path[end + 1..]].concat(), depth + 1)
                }
                _ => module,
            };
        }
        path.to_vec()
    }

    /// The modules that one uses, without its ancestors and descendants.
    fn used_by(&self, module: &[String]) -> BTreeSet<Vec<String>> {
        let code = &self.modules[module];
        let trees = uses(code).into_iter().flat_map(|(_, tree)| expand(&tree));
        let paths = trees.chain(inline(code));
        let used = paths
            .filter_map(|path| self.absolute(module, &path))
            .map(|path| self.module_of(&path, 0))
            .filter(|used| !used.starts_with(module) && !module.starts_with(used));
        used.collect()
    }

    /// The modules that are on a way from themselves back to themselves.
    fn circles(&self) -> Vec<String> {
        let edges: BTreeMap<_, _> =
            self.modules.keys().map(|module| (module.clone(), self.used_by(module))).collect();
        let returns = |start: &Vec<String>| {
            let (mut next, mut seen) = (vec![start.clone()], BTreeSet::new());
            while let Some(module) = next.pop() {
                for used in edges.get(&module).into_iter().flatten() {
                    if used == start {
                        return true;
                    }
                    if seen.insert(used.clone()) {
                        next.push(used.clone());
                    }
                }
            }
            false
        };
        edges.keys().filter(|module| returns(module)).map(|module| module.join("::")).collect()
    }
}

#[test]
fn modules_have_no_circles_but_between_parent_and_child() {
    for name in CRATES {
        let graph = Graph::of(name);
        // It sees what is there.
        assert!(graph.modules.keys().any(|module| !graph.used_by(module).is_empty()), "{name}");
        assert_eq!(graph.circles(), [""; 0], "{name}");
    }
}

#[test]
fn a_circle_is_found() {
    let module = |path: &str, code: &str| {
        (path.split("::").map(str::to_owned).collect::<Vec<_>>(), code.to_owned())
    };
    let modules: BTreeMap<_, _> = [
        module("a", "mod inner;\npub(crate) use inner::Thing;\n"),
        module("a::inner", "use crate::b::{Other, more::{self, Stuff}};\n"),
        module("b", "use std::fmt;\nuse crate::c;\n"),
        module("c", "fn f() -> crate::a::Thing { }\n"),
    ]
    .into();
    let mut graph = Graph { modules, exports: BTreeMap::new() };
    assert_eq!(graph.circles(), [""; 0], "the name is not resolved");
    let path = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    graph.exports.insert((path("a"), "Thing".to_owned()), path("a::inner::Thing"));
    assert_eq!(graph.circles(), ["a::inner", "b", "c"]);
}

/// The words of the code, which are no parts of longer ones.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character: char| !character.is_alphanumeric() && character != '_')
}

#[test]
fn no_two_types_of_a_crate_have_one_name() {
    for name in CRATES {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (module, code) in modules(name) {
            for line in code.lines().filter(|line| !line.starts_with(' ')) {
                let mut words = words(line).filter(|word| !word.is_empty());
                let kind = words.find(|word| !matches!(*word, "pub" | "crate" | "super" | "in"));
                if !matches!(kind, Some("struct" | "enum" | "trait" | "type")) {
                    continue;
                }
                let (Some(type_name), module) = (words.next(), module.join("::")) else { continue };
                if let Some(other) = seen.insert(type_name.to_owned(), module.clone()) {
                    panic!("{name}: {type_name} is in {other} and in {module}");
                }
            }
        }
        assert!(seen.len() > 20, "{name}");
    }
}

#[test]
fn retired_words_do_not_come_back() {
    for (name, retired) in RETIRED {
        for (module, code) in modules(name) {
            let found: Vec<&str> = words(&code).filter(|word| retired.contains(word)).collect();
            assert!(found.is_empty(), "{name}, {}: {found:?}", module.join("::"));
        }
    }
}
