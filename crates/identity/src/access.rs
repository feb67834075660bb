//! Access: rules from claims to topics, and what they come to for one peer.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::claims::{ClaimName, Claims};
use crate::pattern::{Matcher, TopicPattern};
use crate::shared_answers::SharedAnswers;

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
    pub read: Topics,
    /// Topics that they may write.
    pub write: Topics,
}

/// The topics of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Topics {
    /// Topics by their names.
    Named(Vec<TopicPattern>),
    /// Topics that Kafka's own ACLs give to the peer.
    Kafka,
}

impl Topics {
    /// The claims that stand in them.
    fn claims(&self) -> impl Iterator<Item = &ClaimName> {
        let named = match self {
            Self::Named(patterns) => patterns.as_slice(),
            Self::Kafka => &[],
        };
        named.iter().flat_map(TopicPattern::claims)
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

/// Kafka's answer on what one peer may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KafkaTopics {
    /// Topics that it may read.
    pub read: BTreeSet<String>,
    /// Topics that it may write to.
    pub write: BTreeSet<String>,
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

    /// Returns true if Kafka decides about some peers.
    pub fn ask_kafka(&self) -> bool {
        self.0.iter().any(|rule| [&rule.read, &rule.write].contains(&&Topics::Kafka))
    }

    /// Returns the part of a peer's claims that can make a difference to its rights: what a rule
    /// names. The rest of a token need not be kept.
    pub(crate) fn decisive(&self, claims: &Claims) -> Claims {
        let names = self.0.iter().flat_map(|rule| {
            let wanted = match &rule.who {
                Who::AnyKey => &[][..],
                Who::Claims(wanted) => wanted,
            };
            let in_topics = [&rule.read, &rule.write].into_iter().flat_map(Topics::claims);
            wanted.iter().map(|(name, _)| name).chain(in_topics)
        });
        claims.only(names)
    }

    /// Returns the rights of a peer with these claims; `None` is a peer of which nothing is known.
    /// Those that Kafka decides about are not among them until it has answered.
    pub fn grant(&self, claims: Option<&Claims>) -> Grant {
        let mut grant = Grant::default();
        for (number, rule) in (1..).zip(&self.0) {
            if !rule.means(claims) {
                continue;
            }
            grant.rules.push(number);
            let nobody = Claims::new("", "", []);
            let claims = claims.unwrap_or(&nobody);
            for (topics, matchers, asks) in [
                (&rule.read, &mut grant.read, &mut grant.asks.read),
                (&rule.write, &mut grant.write, &mut grant.asks.write),
            ] {
                let Topics::Named(patterns) = topics else {
                    *asks = true;
                    continue;
                };
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
    asks: Asks,
    /// Kafka's answer, of what it is asked about.
    kafka: Option<Arc<KafkaTopics>>,
}

/// The operations that Kafka decides about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asks {
    read: bool,
    write: bool,
}

impl Grant {
    /// Returns true if Kafka decides about some of it.
    pub fn asks_kafka(&self) -> bool {
        self.asks != Asks::default()
    }

    /// Returns true if Kafka has answered that the peer may do nothing of what it was asked about.
    pub fn has_nothing_of_kafka(&self) -> bool {
        self.kafka.as_ref().is_some_and(|kafka| **kafka == KafkaTopics::default())
    }

    /// Returns true if Kafka decides about some of it, and was not asked.
    pub fn lacks_kafka(&self) -> bool {
        self.asks_kafka() && self.kafka.is_none()
    }

    /// Adds what Kafka has answered, as far as rules ask.
    #[must_use]
    pub fn with_kafka(mut self, answer: &KafkaTopics) -> Self {
        let taken = |asks: bool, topics: &BTreeSet<String>| match asks {
            true => topics.clone(),
            false => BTreeSet::new(),
        };
        let Asks { read, write } = self.asks;
        let (read, write) = (taken(read, &answer.read), taken(write, &answer.write));
        self.kafka = self.asks_kafka().then(|| Arc::new(KafkaTopics { read, write }));
        self
    }

    /// Returns the same with Kafka's answer as others have it.
    #[must_use]
    pub(crate) fn shared(mut self, answers: &mut SharedAnswers<KafkaTopics>) -> Self {
        self.kafka = self.kafka.map(|kafka| answers.share(Arc::unwrap_or_clone(kafka)));
        self
    }

    /// Returns true if the peer may have records of a topic.
    pub fn may_read(&self, topic: &str) -> bool {
        let by_kafka = || self.kafka.as_ref().is_some_and(|kafka| kafka.read.contains(topic));
        self.read.iter().any(|matcher| matcher.matches(topic)) || by_kafka()
    }

    /// Returns true if the peer may write records to a topic.
    pub fn may_write(&self, topic: &str) -> bool {
        let by_kafka = || self.kafka.as_ref().is_some_and(|kafka| kafka.write.contains(topic));
        self.write.iter().any(|matcher| matcher.matches(topic)) || by_kafka()
    }

    /// Returns true if there is any topic that the peer may write records to.
    pub fn may_write_something(&self) -> bool {
        !self.write.is_empty() || self.kafka.as_ref().is_some_and(|kafka| !kafka.write.is_empty())
    }

    /// The topics that the peer may read: names, and patterns between slashes; then those that
    /// Kafka lets it read.
    pub fn readable(&self) -> Vec<String> {
        let by_kafka = self.kafka.iter().flat_map(|kafka| kafka.read.iter().cloned());
        self.read.iter().map(ToString::to_string).chain(by_kafka).collect()
    }

    /// The topics that the peer may write to, likewise.
    pub fn writable(&self) -> Vec<String> {
        let by_kafka = self.kafka.iter().flat_map(|kafka| kafka.write.iter().cloned());
        self.write.iter().map(ToString::to_string).chain(by_kafka).collect()
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
mod model;
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
        let patterns = |texts: &[&str]| Topics::Named(patterns(texts));
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
    fn kafka_decides_where_a_rule_says_so() {
        let answer = |read: &[&str], write: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            KafkaTopics { read: set(read), write: set(write) }
        };
        let peer = claims(json!({}));
        let alice = |read, write| {
            let mut rule = rule(&[("sub", json!("alice"))], &[], &[]);
            (rule.read, rule.write) = (read, write);
            rule
        };
        let nothing = Topics::default;
        let both = answer(&["r"], &["w"]);
        for (rules, asks, [reads, writes]) in [
            (vec![alice(Topics::Kafka, nothing())], true, [true, false]),
            (vec![alice(nothing(), Topics::Kafka)], true, [false, true]),
            (vec![alice(Topics::Kafka, Topics::Kafka)], true, [true, true]),
            (
                vec![alice(Topics::Kafka, nothing()), alice(nothing(), Topics::Kafka)],
                true,
                [true; 2],
            ),
            (vec![alice(nothing(), nothing())], false, [false, false]),
            (vec![], false, [false, false]),
        ] {
            let grant = Rules::new(rules.clone()).grant(Some(&peer));
            assert_eq!(grant.asks_kafka(), asks, "{rules:?}");
            // Nothing is allowed before there is an answer.
            assert!(!grant.may_read("r") && !grant.may_write("w") && !grant.may_write_something());
            let answered = grant.clone().with_kafka(&both);
            assert_eq!([answered.may_read("r"), answered.may_write("w")], [reads, writes]);
            assert_eq!(answered.may_write_something(), writes);
            assert!(!answered.may_read("w") && !answered.may_write("r") && !answered.may_read("x"));
            assert!(!answered.has_nothing_of_kafka());
            assert_eq!(answered.readable().len(), usize::from(reads));
            let denied = grant.with_kafka(&answer(&[], &[]));
            assert!(!denied.may_read("r") && !denied.may_write_something());
            assert_eq!(denied.has_nothing_of_kafka(), asks);
        }
        // What Kafka was not asked about makes no difference, and rules add up.
        let reads = vec![alice(Topics::Kafka, nothing()), rule(&[], &["named"], &[])];
        let grant = Rules::new(reads).grant(Some(&peer));
        let [one, other] = [&["w"][..], &["x"]].map(|write| answer(&["r"], write));
        assert_eq!(grant.clone().with_kafka(&one), grant.clone().with_kafka(&other));
        let grant = grant.with_kafka(&one);
        assert!(grant.may_read("named") && grant.may_read("r"));
        // A claim that is a wildcard says nothing to Kafka's answer.
        assert!(!grant.may_read("*"));
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
