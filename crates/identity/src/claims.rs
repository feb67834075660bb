//! Claims: what is known of a peer, by name.

use serde_json::{Map, Value};

/// The issuer of what a key file says.
pub const ISSUER_KEYS: &str = "keys";
/// The issuer of what the kernel says of an `ipc` peer.
pub const ISSUER_PEERCRED: &str = "peercred";

/// The longest subject that is shown, in characters.
const SHOWN: usize = 80;

/// The knowledge of a peer. `iss` and `sub` are always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Claims of a subject, as `issuer` knows it. `iss` and `sub` among the others do not count.
    pub fn new(
        issuer: &str,
        subject: &str,
        others: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        let mut claims: Map<String, Value> = others.into_iter().collect();
        claims.insert("iss".to_owned(), issuer.into());
        claims.insert("sub".to_owned(), subject.into());
        Self(claims)
    }

    /// The claims of an `ipc` peer.
    pub fn of_process(uid: u32, gid: u32) -> Self {
        let numbers = [("uid".to_owned(), uid.into()), ("gid".to_owned(), gid.into())];
        Self::new(ISSUER_PEERCRED, &uid.to_string(), numbers)
    }

    /// Returns the issuer that vouches for them.
    pub fn issuer(&self) -> &str {
        self.0.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the subject that they are about.
    pub fn subject(&self) -> &str {
        self.0.get("sub").and_then(Value::as_str).unwrap_or_default()
    }

    /// The id of the token that says so (`jti`), if it has one.
    pub fn token_id(&self) -> Option<&str> {
        self.0.get("jti").and_then(Value::as_str)
    }

    /// Returns the part of them that these names mean. The subject and the token that they are from
    /// stay.
    pub(crate) fn only<'a>(&self, names: impl IntoIterator<Item = &'a ClaimName>) -> Self {
        let own = ["iss", "sub", "jti"].map(|name| self.0.get_key_value(name));
        let mut kept: Map<String, Value> =
            own.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        for name in names {
            graft(&self.0, &mut kept, &name.path());
        }
        Self(kept)
    }

    /// The values of a claim: what an array holds, the words of `scope` and `scp`, or the one value
    /// that it has.
    pub(crate) fn values<'a>(&'a self, name: &'a ClaimName) -> Vec<Value> {
        let Some(value) = name.of(&self.0) else { return Vec::new() };
        match value {
            Value::Array(values) => values.clone(),
            Value::String(text) if name.is_scope() => {
                text.split(' ').filter(|word| !word.is_empty()).map(Value::from).collect()
            }
            value => vec![value.clone()],
        }
    }

    /// Returns true if a claim has one of these values.
    pub(crate) fn has(&self, name: &ClaimName, alternatives: &[Value]) -> bool {
        self.values(name).iter().any(|value| alternatives.contains(value))
    }

    /// A claim as a text that may become a part of a topic's name: `[A-Za-z0-9_-]{1,64}`. No dot,
    /// so that tenant `a` does not reach what is `a.b`'s.
    pub(crate) fn part_of_a_name(&self, name: &ClaimName) -> Option<String> {
        let text = match name.of(&self.0)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_u64() => number.to_string(),
            _ => return None,
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(fine)).then_some(text)
    }
}

/// Copies what stands at the end of a path. An array on the way is copied as a whole.
fn graft(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    match from.get(first) {
        Some(Value::Object(inner)) if !rest.is_empty() => {
            let to = to.entry(first.clone()).or_insert_with(|| Map::new().into());
            if let Value::Object(to) = to {
                graft(inner, to, rest);
            }
        }
        Some(value) => drop(to.insert(first.clone(), value.clone())),
        None => {}
    }
}

/// A text of a stranger, for a log line or a status: what is not printable is escaped, and what is
/// long is cut.
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == SHOWN {
            shown.push_str("...");
            break;
        }
        if character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric() {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

/// A claim's name, or a JSON pointer (RFC 6901) into the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName(String);

impl ClaimName {
    /// Takes a name, or a pointer if it begins with a slash. `None` for an empty one, and for a
    /// pointer with an escape that there is not.
    pub fn parse(text: &str) -> Option<Self> {
        let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
        let is_pointer = text.starts_with('/');
        (!text.is_empty() && (escapes || !is_pointer)).then(|| Self(text.to_owned()))
    }

    /// The name or pointer.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names on the way to it, from outside.
    fn path(&self) -> Vec<String> {
        match self.0.strip_prefix('/') {
            None => vec![self.0.clone()],
            Some(pointer) => {
                let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
                pointer.split('/').map(unescaped).collect()
            }
        }
    }

    fn is_scope(&self) -> bool {
        matches!(self.0.as_str(), "scope" | "scp")
    }

    fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let Some(pointer) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let (first, rest) = match pointer.find('/') {
            Some(slash) => pointer.split_at(slash),
            None => (pointer, ""),
        };
        claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        let Value::Object(map) = value else { panic!("no object") };
        Claims::new("https://id", "alice", map)
    }

    fn name(text: &str) -> ClaimName {
        ClaimName::parse(text).unwrap()
    }

    #[test]
    fn values_of_claims() {
        let claims = claims(json!({
            "realm_access": { "roles": ["a", "b"] }, "scope": "x  y", "scp": "z", "n": 7,
            "t": "u v", "a/b": { "~": [1] }, "sub": "mallory", "iss": "nobody", "empty": [],
        }));
        for (pointer, values) in [
            ("/realm_access/roles", json!(["a", "b"])),
            ("/realm_access/roles/1", json!(["b"])),
            ("scope", json!(["x", "y"])),
            ("scp", json!(["z"])),
            ("/scope", json!(["x  y"])),
            ("n", json!([7])),
            ("t", json!(["u v"])),
            ("a/b", json!([{ "~": [1] }])),
            ("/a~1b/~0", json!([1])),
            ("sub", json!(["alice"])),
            ("iss", json!(["https://id"])),
            ("empty", json!([])),
            ("none", json!([])),
            ("/none/at/all", json!([])),
            ("/n/x", json!([])),
        ] {
            assert_eq!(json!(claims.values(&name(pointer))), values, "{pointer}");
        }
        assert_eq!((claims.issuer(), claims.subject()), ("https://id", "alice"));
    }

    #[test]
    fn what_names_mean_is_kept_and_nothing_else() {
        let claims = claims(json!({
            "jti": "7", "realm_access": { "roles": ["a", "b"], "other": 1 }, "email": "a@b.c",
            "list": [{ "x": 1 }, { "x": 2 }], "a/b": { "~": { "c": 3 } }, "n": 7, "groups": ["g"],
        }));
        let names = ["/realm_access/roles", "/list/1/x", "/a~1b/~0/c", "n", "none", "/n/x", "/z/y"];
        let names = names.map(name);
        let kept = claims.only(&names);
        let expected = json!({
            "iss": "https://id", "sub": "alice", "jti": "7",
            "realm_access": { "roles": ["a", "b"] },
            "list": [{ "x": 1 }, { "x": 2 }], "a/b": { "~": { "c": 3 } }, "n": 7,
        });
        assert_eq!(json!(kept.0), expected);
        for name in &names {
            assert_eq!(kept.values(name), claims.values(name), "{name:?}");
        }
        // In whichever order they come.
        let both = [name("/realm_access/roles"), name("realm_access")];
        let [one, other] = [claims.only(&both), claims.only(both.iter().rev())];
        assert_eq!((&one, one.values(&both[1])), (&other, claims.values(&both[1])));
        let nothing: [ClaimName; 0] = [];
        assert_eq!(json!(claims.only(&nothing).0).as_object().unwrap().len(), 3);
    }

    #[test]
    fn names_of_claims() {
        for wrong in ["", "/a~2", "/~"] {
            assert_eq!(ClaimName::parse(wrong), None, "{wrong}");
        }
        assert!(ClaimName::parse("https://example.com/claim~").is_some());
    }

    #[test]
    fn what_may_be_a_part_of_a_topic() {
        let long = "x".repeat(64);
        for fine in ["a", "A-9_z", &long] {
            let claims = claims(json!({ "tenant": fine }));
            assert_eq!(claims.part_of_a_name(&name("tenant")).as_deref(), Some(fine));
        }
        let number = claims(json!({ "tenant": 12 }));
        assert_eq!(number.part_of_a_name(&name("tenant")).as_deref(), Some("12"));
        for wrong in [
            json!("a.b"),
            json!("*"),
            json!(""),
            json!("a/../b"),
            json!(long.clone() + "x"),
            json!("\u{e9}"),
            json!(["a"]),
            json!(-1),
            json!(1.5),
            json!(null),
        ] {
            let claims = claims(json!({ "tenant": wrong }));
            assert_eq!(claims.part_of_a_name(&name("tenant")), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_stranger_says_is_shown_with_care() {
        assert_eq!(shown("J\u{fc}rgen a-7"), "J\u{fc}rgen a-7");
        assert_eq!(shown("a\nb\u{202e}"), "a\\u{a}b\\u{202e}");
        assert_eq!(shown(&"x".repeat(81)), "x".repeat(80) + "...");
    }
}
