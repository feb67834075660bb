//! `${VAR}`, `${VAR:-default}` and `$$` in a text. A dollar before anything else stands for itself.

use super::mistake::Rejected;

const ALLOWED: &str = "${NAME}, ${NAME:-default}, $$ for a dollar";

/// Expands the variables of `text`. An empty variable counts as unset if there is a default, as in
/// a shell.
///
/// # Errors
/// A variable that is not set and has no default, or a malformed one. No value is ever part of the
/// error.
pub fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Rejected> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                return Err(Rejected::because("\"${\" without \"}\"", ALLOWED));
            };
            out.push_str(&value(&after[..end], variable)?);
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(inside: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Rejected> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Rejected::because(
            "not the name of a variable between \"${\" and \"}\"",
            ALLOWED,
        ));
    }
    match (variable(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Rejected::because(
            format!("the environment variable {name} is not set"),
            format!("a variable that is set, or a default: ${{{name}:-...}}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn expands() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}:9092", "kafka:9092"),
            ("${HOST:-x}${HOST}", "kafkakafka"),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-}", ""),
            ("${EMPTY}|${EMPTY:-d}", "|d"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("$$$$", "$$"),
            ("/orders$/", "/orders$/"),
            ("a$", "a$"),
            ("$HOST", "$HOST"),
        ] {
            assert_eq!(expand(text, &variable).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("${NONE}", "the environment variable NONE is not set"),
            ("${HOST", "without \"}\""),
            ("${}", "not the name of a variable"),
            ("${1A}", "not the name of a variable"),
            ("${HO ST:-x}", "not the name of a variable"),
        ] {
            let wrong = expand(text, &variable).unwrap_err();
            assert!(
                wrong.why.as_deref().is_some_and(|found| found.contains(why)),
                "{text}: {wrong:?}"
            );
        }
    }
}
