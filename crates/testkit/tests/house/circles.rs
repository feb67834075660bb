//! No import circles: at each level of a crate the modules side by side, each with all that is
//! under it, use one another in one direction. A module and those under it may use each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Imports;
use crate::tree::{Module, modules};
use crate::{crates, root};

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Lists for each module with modules in it which of these uses which.
fn levels(modules: &[Module]) -> BTreeMap<Vec<String>, Edges> {
    let imports = Imports::new(modules);
    let mut levels: BTreeMap<Vec<String>, Edges> = BTreeMap::new();
    for module in modules {
        for used in imports.of(module) {
            let common = module.path.iter().zip(&used).take_while(|(a, b)| a == b).count();
            // Otherwise one is above the other.
            if let (Some(from), Some(to)) = (module.path.get(common), used.get(common)) {
                let edges = levels.entry(used[..common].to_vec()).or_default();
                edges.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    levels
}

/// The modules that can be reached from one.
fn reach<'a>(edges: &'a Edges, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(at) = next.pop() {
        for to in edges.get(at).into_iter().flatten() {
            if seen.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    seen
}

/// The circles of one level: sets of modules each of which reaches all of them.
fn circles(edges: &Edges) -> BTreeSet<Vec<String>> {
    let reach: BTreeMap<_, _> = edges.keys().map(|at| (at.as_str(), reach(edges, at))).collect();
    let circle = |at: &str| -> Vec<String> {
        let mutual = reach[at].iter().filter(|to| reach.get(*to).is_some_and(|r| r.contains(at)));
        mutual.map(|&name| name.to_owned()).collect()
    };
    reach.keys().map(|at| circle(at)).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn no_crate_has_an_import_circle() {
    let (mut found, mut shown) = (BTreeSet::new(), String::new());
    for folder in crates() {
        let name = folder.strip_prefix(root()).unwrap().display().to_string();
        for (around, edges) in levels(&modules(&folder)) {
            for circle in circles(&edges) {
                let inside = |name: &String| circle.contains(name);
                for (from, to) in edges.iter().filter(|(from, _)| inside(from)) {
                    let to: Vec<_> = to.iter().filter(|to| inside(to)).collect();
                    shown += &format!("{name} {}: {from} uses {to:?}\n", around.join("::"));
                }
                found.insert((name.clone(), around.join("::"), circle));
            }
        }
    }
    assert!(found.is_empty(), "{found:?}:\n{shown}");
}

#[test]
fn circles_are_found() {
    let module = |path: &[&str], code: &str| Module {
        path: path.iter().map(|&name| name.to_owned()).collect(),
        items: syn::parse_file(code).unwrap().items,
    };
    let modules = [
        module(&[], "pub use a::Thing; pub struct Root;"),
        module(&["a"], "pub use inner::Thing; use b::Other;"),
        // Up, down, and a re-export that leads back to itself: no circle.
        module(&["a", "inner"], "use super::Part; use crate::{Root, c}; pub struct Thing;"),
        module(&["b"], "pub struct Other; pub(in crate::a) fn f() { c::g(); }"),
        module(&["c"], "use crate::b::Other as _; fn g() -> crate::Thing { std::f(self::X) }"),
    ];
    let levels = levels(&modules);
    let top = circles(&levels[&vec![]]);
    assert_eq!(top, BTreeSet::from([vec!["a".to_owned(), "c".to_owned()]]));
    assert_eq!(levels.len(), 1, "{levels:?}");
}
