//! Access: rules from claims to topics, and what they come to for one peer.

use serde_json::Value;

use crate::claims::{ClaimName, Claims};
use crate::pattern::{Matcher, TopicPattern};

/// The peers that a rule is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// Every peer, also one with an unknown key: encryption without authentication.
    AnyKey,
    /// Peers that have all of these claims, each with one of the values. An array claim has each
    /// value in it, `scope` and `scp` each of their words.
    Claims(Vec<(ClaimName, Vec<Value>)>),
}

/// One rule. Rules add up; there is none that denies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The peers that it is for.
    pub who: Who,
    /// Topics that they may read.
    pub read: Vec<TopicPattern>,
    /// Topics that they may write.
    pub write: Vec<TopicPattern>,
}

/// All rules. Nothing is allowed without one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Takes rules in their order, by which they are numbered from 1.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Returns true if an unknown key is let in.
    pub fn admit_any_key(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.who, Who::AnyKey))
    }

    /// Returns the rights of a peer with these claims; `None` is a peer of which nothing is known.
    pub fn grant(&self, claims: Option<&Claims>) -> Grant {
        let mut grant = Grant::default();
        for (number, rule) in (1..).zip(&self.0) {
            if !rule.means(claims) {
                continue;
            }
            grant.rules.push(number);
            let nobody = Claims::new("", "", []);
            let claims = claims.unwrap_or(&nobody);
            for (patterns, matchers) in
                [(&rule.read, &mut grant.read), (&rule.write, &mut grant.write)]
            {
                for pattern in patterns {
                    match pattern.for_claims(claims) {
                        Some(matcher) => matchers.push(matcher),
                        None => grant.left_out.push(pattern.to_string()),
                    }
                }
            }
        }
        grant
    }
}

impl Rule {
    fn means(&self, claims: Option<&Claims>) -> bool {
        match (&self.who, claims) {
            (Who::AnyKey, _) => true,
            (Who::Claims(_), None) => false,
            (Who::Claims(wanted), Some(claims)) => {
                wanted.iter().all(|(name, alternatives)| claims.has(name, alternatives))
            }
        }
    }
}

/// The rights of one peer. The one place that decides, for every path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grant {
    rules: Vec<usize>,
    read: Vec<Matcher>,
    write: Vec<Matcher>,
    left_out: Vec<String>,
}

impl Grant {
    /// Returns true if the peer may have records of a topic.
    pub fn may_read(&self, topic: &str) -> bool {
        self.read.iter().any(|matcher| matcher.matches(topic))
    }

    /// Returns true if the peer may write records to a topic.
    pub fn may_write(&self, topic: &str) -> bool {
        self.write.iter().any(|matcher| matcher.matches(topic))
    }

    /// Returns true if there is any topic that the peer may write records to.
    pub fn may_write_something(&self) -> bool {
        !self.write.is_empty()
    }

    /// The topics that the peer may read: names, and patterns between slashes.
    pub fn readable(&self) -> Vec<String> {
        self.read.iter().map(ToString::to_string).collect()
    }

    /// The topics that the peer may write to, likewise.
    pub fn writable(&self) -> Vec<String> {
        self.write.iter().map(ToString::to_string).collect()
    }

    /// The numbers of the rules that mean the peer, from 1.
    pub fn rules(&self) -> &[usize] {
        &self.rules
    }

    /// Entries of those rules that need a claim which the peer does not have, or which is nothing
    /// that may be part of a topic's name.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(who: &[(&str, Value)], read: &[&str], write: &[&str]) -> Rule {
        let who = who.iter().map(|(name, value)| {
            let alternatives = match value {
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            (ClaimName::parse(name).unwrap(), alternatives)
        });
        let patterns =
            |texts: &[&str]| texts.iter().map(|text| TopicPattern::parse(text).unwrap()).collect();
        Rule { who: Who::Claims(who.collect()), read: patterns(read), write: patterns(write) }
    }

    fn claims(value: Value) -> Claims {
        let Value::Object(map) = value else { panic!("no object") };
        Claims::new("https://id", "alice", map)
    }

    #[test]
    fn who_is_meant() {
        let peer = claims(json!({
            "roles": ["dashboard", "ops"], "azp": "cli", "uid": 1001, "admin": true, "scope": "a b",
        }));
        let no_role = json!("dash");
        for (who, meant) in [
            (vec![], true),
            (vec![("roles", json!("dashboard"))], true),
            (vec![("roles", no_role.clone())], false),
            (vec![("roles", json!(["none", "ops"]))], true),
            (vec![("roles", json!("ops")), ("azp", json!("cli"))], true),
            (vec![("roles", json!("ops")), ("azp", json!("web"))], false),
            (vec![("uid", json!(1001))], true),
            (vec![("uid", json!("1001"))], false),
            (vec![("admin", json!(true))], true),
            (vec![("admin", json!("true"))], false),
            (vec![("scope", json!("b"))], true),
            (vec![("scope", json!("a b"))], false),
            (vec![("none", json!(null))], false),
        ] {
            let rules = Rules::new(vec![rule(&who, &["t"], &[])]);
            assert_eq!(rules.grant(Some(&peer)).may_read("t"), meant, "{who:?}");
            assert!(!rules.grant(None).may_read("t"), "a key that nobody knows: {who:?}");
        }
    }

    #[test]
    fn rules_add_up_and_nothing_is_allowed_without_one() {
        let peer = claims(json!({ "tenant": "a.b" }));
        let rules = Rules::new(vec![
            rule(&[("sub", json!("bob"))], &["bobs"], &[]),
            rule(&[("sub", json!("alice"))], &["orders", "t-{tenant}"], &["edge"]),
            rule(&[("iss", json!("https://id"))], &["/^pay\\..*$/"], &[]),
        ]);
        let grant = rules.grant(Some(&peer));
        assert_eq!(grant.rules(), [2, 3]);
        assert_eq!(grant.left_out(), ["t-{tenant}"]);
        for (topic, read, write) in [
            ("orders", true, false),
            ("pay.eu", true, false),
            ("edge", false, true),
            ("bobs", false, false),
            ("t-a.b", false, false),
            ("t-", false, false),
        ] {
            assert_eq!((grant.may_read(topic), grant.may_write(topic)), (read, write), "{topic}");
        }
        let nothing = Rules::default().grant(Some(&peer));
        assert!(!nothing.may_read("orders") && !nothing.may_write("orders"));
    }

    #[test]
    fn any_key_is_said_by_name() {
        let mut open = rule(&[], &["news"], &[]);
        assert!(!Rules::new(vec![open.clone()]).admit_any_key());
        open.who = Who::AnyKey;
        let rules = Rules::new(vec![open]);
        assert!(rules.admit_any_key());
        assert!(rules.grant(None).may_read("news"));
        assert!(!rules.grant(None).may_read("orders"));
    }
}
