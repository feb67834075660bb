//! Rules of any kind for peers of any kind, beside a plain reading of them.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

use super::*;

/// An entry of a rule, and what it means.
#[derive(Clone, Copy, Debug)]
struct Entry {
    text: &'static str,
    means: fn(topic: &str, tenant: Option<&str>) -> bool,
}

static ENTRIES: [Entry; 6] = [
    Entry { text: "a", means: |topic, _| topic == "a" },
    Entry { text: "a.b", means: |topic, _| topic == "a.b" },
    Entry {
        text: "a.{tenant}",
        means: |topic, own| own.is_some_and(|own| topic == format!("a.{own}")),
    },
    Entry { text: "/^a\\..*$/", means: |topic, _| topic.starts_with("a.") },
    Entry {
        text: "/^{tenant}|a.c$/",
        means: |topic, own| {
            own.is_some_and(|own| {
                topic == own || topic.len() == 3 && topic.starts_with('a') && topic.ends_with('c')
            })
        },
    },
    Entry { text: "/^[ab]$/", means: |topic, _| topic == "a" || topic == "b" },
];

const TOPICS: [&str; 9] = ["", "a", "b", "a.b", "a.", "axc", "ab", "a.{tenant}", "xa"];

#[derive(Clone, Debug)]
struct Plain {
    /// The roles of which a peer has to have one; none is asked for if there are none.
    roles: Vec<&'static str>,
    tenant: Option<Value>,
    read: Vec<Entry>,
    write: Vec<Entry>,
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    subsequence(&ENTRIES[..], 0..4)
}

fn tenant() -> impl Strategy<Value = Value> {
    select(vec![json!("b"), json!("a"), json!("c"), json!("b.c"), json!(""), json!(".*"), json!(1)])
}

fn plain() -> impl Strategy<Value = Plain> {
    let roles = subsequence(&["dash", "ops"][..], 0..=2);
    (roles, proptest::option::weighted(0.3, tenant()), entries(), entries())
        .prop_map(|(roles, tenant, read, write)| Plain { roles, tenant, read, write })
}

/// The roles of a peer as a token has them: one, or a list, or none.
fn roles() -> impl Strategy<Value = Option<Value>> {
    select(vec![
        None,
        Some(json!("dash")),
        Some(json!("other")),
        Some(json!(["ops"])),
        Some(json!(["dash", "other"])),
        Some(json!([])),
        Some(json!(["dash ops"])),
    ])
}

impl Plain {
    fn rule(&self) -> Rule {
        let mut who = Vec::new();
        let name = |name: &str| ClaimName::parse(name).unwrap();
        if !self.roles.is_empty() {
            who.push((name("role"), self.roles.iter().map(|role| json!(role)).collect()));
        }
        if let Some(tenant) = &self.tenant {
            who.push((name("tenant"), vec![tenant.clone()]));
        }
        let topics = |entries: &[Entry]| {
            let texts = entries.iter().map(|entry| TopicPattern::parse(entry.text).unwrap());
            Topics::Named(texts.collect())
        };
        Rule { who: Who::Claims(who), read: topics(&self.read), write: topics(&self.write) }
    }

    fn means(&self, roles: Option<&Value>, tenant: &Value) -> bool {
        let has = |wanted: &str| match roles {
            Some(Value::Array(list)) => list.iter().any(|one| one == wanted),
            Some(one) => one == wanted,
            None => false,
        };
        let has_role = self.roles.is_empty() || self.roles.iter().any(|role| has(role));
        has_role && self.tenant.as_ref().is_none_or(|wanted| wanted == tenant)
    }
}

proptest! {
    #[test]
    fn a_peer_may_what_some_rule_says(
        plain in proptest::collection::vec(plain(), 0..4),
        roles in roles(),
        tenant in tenant(),
    ) {
        let mut others = vec![("tenant".to_owned(), tenant.clone())];
        others.extend(roles.clone().map(|roles| ("role".to_owned(), roles)));
        let claims = Claims::new("https://id", "alice", others);
        let own = match &tenant {
            Value::String(text) if ["a", "b", "c"].contains(&&**text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let grant = Rules::new(plain.iter().map(Plain::rule).collect()).grant(Some(&claims));
        let meant: Vec<_> =
            plain.iter().filter(|rule| rule.means(roles.as_ref(), &tenant)).collect();
        for topic in TOPICS {
            let says = |entries: &[Entry]| {
                entries.iter().any(|one| (one.means)(topic, own.as_deref()))
            };
            let reads = meant.iter().any(|rule| says(&rule.read));
            let writes = meant.iter().any(|rule| says(&rule.write));
            prop_assert_eq!(grant.may_read(topic), reads, "read {:?}", topic);
            prop_assert_eq!(grant.may_write(topic), writes, "write {:?}", topic);
        }
    }
}
