//! Reasons are types, which say what they are about and what follows: in the crate of Kafka no
//! function fails with a text.

use syn::visit::{self, Visit};
use syn::{GenericArgument, PathArguments, Type, TypePath};

use crate::root;
use crate::tree::modules;

/// Counts every `Result` whose error is a text.
#[derive(Default)]
struct Texts(usize);

impl<'a> Visit<'a> for Texts {
    fn visit_type_path(&mut self, path: &'a TypePath) {
        if let Some(last) = path.path.segments.last()
            && last.ident == "Result"
            && let PathArguments::AngleBracketed(arguments) = &last.arguments
            && let Some(GenericArgument::Type(error)) = arguments.args.iter().nth(1)
            && is_text(error)
        {
            self.0 += 1;
        }
        visit::visit_type_path(self, path);
    }
}

fn is_text(error: &Type) -> bool {
    match error {
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "String"),
        Type::Reference(reference) => {
            matches!(&*reference.elem, Type::Path(path) if path.path.is_ident("str"))
        }
        _ => false,
    }
}

#[test]
fn nothing_of_kafka_fails_with_a_text() {
    let (mut count, mut faults) = (0, Vec::new());
    for module in modules(&root().join("crates/kafka")) {
        let mut texts = Texts::default();
        module.items.iter().for_each(|item| texts.visit_item(item));
        count += 1;
        if texts.0 > 0 {
            faults.push(format!("{}: {}", module.path.join("::"), texts.0));
        }
    }
    assert!(count > 100, "only {count} modules");
    assert!(faults.is_empty(), "errors that are texts: {faults:?}");
}

#[test]
fn a_text_is_found_wherever_it_is_an_error() {
    for (source, expected) in [
        ("fn f() -> Result<(), String> { Ok(()) }", 1),
        ("trait T { fn f(&self) -> Option<std::result::Result<u8, &'static str>>; }", 1),
        ("struct S { f: HashMap<u8, Result<Option<u8>, String>> }", 1),
        ("fn f(f: impl FnOnce() -> Result<(), String>) -> Result<(), String> { f() }", 2),
        ("fn f() -> Result<String, Error> { Ok(String::new()) }", 0),
        ("fn f() -> io::Result<String> { Ok(String::new()) }", 0),
    ] {
        let mut texts = Texts::default();
        texts.visit_file(&syn::parse_file(source).unwrap());
        assert_eq!(texts.0, expected, "{source}");
    }
}
