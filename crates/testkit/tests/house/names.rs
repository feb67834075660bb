//! One name for one thing: a crate defines no two types of one name.

use std::collections::{BTreeMap, BTreeSet};

use syn::Item;

use crate::tree::modules;
use crate::{crates, root};

/// Names that still stand for several types: crate, name.
const KNOWN: &[(&str, &[&str])] = &[];

#[test]
fn no_crate_defines_two_types_of_one_name() {
    let (mut found, mut shown) = (BTreeSet::new(), String::new());
    for folder in crates() {
        let name = folder.strip_prefix(root()).unwrap().display().to_string();
        let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for module in modules(&folder) {
            for item in &module.items {
                let ident = match item {
                    Item::Enum(item) => &item.ident,
                    Item::Struct(item) => &item.ident,
                    Item::Trait(item) => &item.ident,
                    Item::Type(item) => &item.ident,
                    _ => continue,
                };
                types.entry(ident.to_string()).or_default().push(module.path.join("::"));
            }
        }
        for (ident, places) in types.into_iter().filter(|(_, places)| places.len() > 1) {
            shown += &format!("{name}: {ident} in {places:?}\n");
            found.insert((name.clone(), ident));
        }
    }
    let known = |(of, names): &(&str, &'static [&'static str])| {
        let of = (*of).to_owned();
        names.iter().map(move |name| (of.clone(), (*name).to_owned()))
    };
    let known: BTreeSet<_> = KNOWN.iter().flat_map(known).collect();
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "{gone:?} are known and not there: take them out of the list");
    found.retain(|name| !known.contains(name));
    assert!(found.is_empty(), "{found:?}; of these names and the known ones:\n{shown}");
}
