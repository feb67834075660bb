//! The directory: which keys are known, and who is let in.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use zafka_zmtp::curve::PublicKey;

use crate::access::{Grant, Rules};
use crate::claims::Claims;

/// A peer that was let in: who it is, and what it may do until that ends.
#[derive(Debug)]
pub struct Admission {
    /// Its key; none of an `ipc` peer.
    pub key: Option<PublicKey>,
    /// What is known of it; nothing of a key that only `any-key` lets in.
    pub claims: Option<Arc<Claims>>,
    /// What it may do.
    pub grant: Grant,
    ended: AtomicBool,
}

impl Admission {
    /// Whether it holds. One that has ended never holds again.
    pub fn holds(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Who the peer is; empty if nothing is known of it.
    pub fn subject(&self) -> &str {
        self.claims.as_deref().map_or("", Claims::subject)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows the key. It may be known later, so that the peer may try again.
    #[error("its key is not known")]
    UnknownKey,
}

/// Admissions that are looked through at the least before those without a connection are forgotten.
const MIN_KEPT: usize = 1024;

/// The keys that are known, and the rules.
#[derive(Debug)]
pub struct Directory {
    rules: Rules,
    keys: HashMap<PublicKey, Arc<Claims>>,
    /// Who is in, by key: all connections of a key have one admission. One that nobody has is
    /// forgotten, for anybody can make keys.
    admitted: HashMap<PublicKey, Weak<Admission>>,
    /// How many there may be before they are looked through.
    max_admitted: usize,
}

impl Directory {
    /// A directory in which no key is known yet.
    pub fn new(rules: Rules) -> Self {
        let (keys, admitted) = (HashMap::new(), HashMap::new());
        Self { rules, keys, admitted, max_admitted: MIN_KEPT }
    }

    /// Decides on a key whose owner has proven it.
    ///
    /// # Errors
    /// The key is not let in.
    pub fn admit(&mut self, key: PublicKey) -> Result<Arc<Admission>, Refusal> {
        if let Some(admission) = self.admitted.get(&key).and_then(Weak::upgrade) {
            return Ok(admission);
        }
        let claims = self.keys.get(&key).cloned();
        if claims.is_none() && !self.rules.admit_any_key() {
            return Err(Refusal::UnknownKey);
        }
        if self.admitted.len() >= self.max_admitted {
            self.admitted.retain(|_, admission| admission.strong_count() > 0);
            self.max_admitted = MIN_KEPT.max(2 * self.admitted.len());
        }
        let admission = self.admission(Some(key), claims);
        self.admitted.insert(key, Arc::downgrade(&admission));
        Ok(admission)
    }

    /// Decides on an `ipc` peer, as the kernel knows it.
    pub fn admit_process(&self, uid: u32, gid: u32) -> Arc<Admission> {
        self.admission(None, Some(Arc::new(Claims::of_process(uid, gid))))
    }

    /// Decides on a peer that shows neither a key nor a process: it has no claims.
    pub fn admit_nobody(&self) -> Arc<Admission> {
        self.admission(None, None)
    }

    /// Takes the keys that are known from now on. Admissions of keys of which something else is
    /// known now, or nothing any more, end; they are returned.
    pub fn set_keys(
        &mut self,
        keys: impl IntoIterator<Item = (PublicKey, Claims)>,
    ) -> Vec<Arc<Admission>> {
        self.keys = keys.into_iter().map(|(key, claims)| (key, Arc::new(claims))).collect();
        let mut ended = Vec::new();
        let known = &self.keys;
        self.admitted.retain(|key, admission| {
            let Some(admission) = admission.upgrade() else { return false };
            let stays = admission.claims == known.get(key).cloned();
            if !stays {
                admission.end();
                ended.push(admission);
            }
            stays
        });
        ended
    }

    /// How many keys are known.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    fn admission(&self, key: Option<PublicKey>, claims: Option<Arc<Claims>>) -> Arc<Admission> {
        let grant = self.rules.grant(claims.as_deref());
        Arc::new(Admission { key, claims, grant, ended: AtomicBool::new(false) })
    }
}

#[cfg(test)]
mod tests {
    use zafka_zmtp::curve::SecretKey;

    use super::*;
    use crate::claims::{ClaimName, ISSUER_KEYS, ISSUER_PEERCRED};
    use crate::pattern::TopicPattern;
    use crate::{Rule, Who};

    fn key(number: u8) -> PublicKey {
        SecretKey::from_bytes([number; 32]).public_key()
    }

    fn machine(name: &str) -> Claims {
        Claims::new(ISSUER_KEYS, name, [])
    }

    fn rule(who: Who, topic: &str) -> Rule {
        let topics = vec![TopicPattern::parse(topic).unwrap()];
        Rule { who, read: topics, write: Vec::new() }
    }

    fn is(claim: &str, value: impl Into<serde_json::Value>) -> Who {
        Who::Claims(vec![(ClaimName::parse(claim).unwrap(), vec![value.into()])])
    }

    fn directory() -> Directory {
        let mut directory = Directory::new(Rules::new(vec![
            rule(is("iss", ISSUER_KEYS), "t-{sub}"),
            rule(is("uid", 1001), "local"),
        ]));
        assert!(directory.set_keys([(key(1), machine("a")), (key(2), machine("b"))]).is_empty());
        directory
    }

    #[test]
    fn a_known_key_is_let_in_and_another_is_not() {
        let mut directory = directory();
        let admission = directory.admit(key(1)).unwrap();
        assert_eq!(admission.subject(), "a");
        assert!(admission.grant.may_read("t-a") && !admission.grant.may_read("t-b"));
        assert_eq!(directory.admit(key(3)).unwrap_err(), Refusal::UnknownKey);
        assert!(Arc::ptr_eq(&admission, &directory.admit(key(1)).unwrap()));
    }

    #[test]
    fn what_is_known_of_a_key_changes() {
        let mut directory = directory();
        let [one, two] = [1, 2].map(|number| directory.admit(key(number)).unwrap());
        let again = [(key(1), machine("a")), (key(2), machine("c")), (key(3), machine("d"))];
        let ended = directory.set_keys(again);
        assert_eq!(ended.len(), 1);
        assert!(one.holds() && !two.holds());
        assert!(directory.admit(key(2)).unwrap().grant.may_read("t-c"));
        assert_eq!(directory.admit(key(3)).unwrap().subject(), "d");
        assert_eq!(directory.set_keys([]).len(), 1, "whoever has no connection is not told of");
        assert!(!one.holds());
        assert_eq!(directory.admit(key(1)).unwrap_err(), Refusal::UnknownKey);
    }

    #[test]
    fn a_key_that_any_rule_lets_in_and_becomes_known() {
        let rules = vec![rule(Who::AnyKey, "news"), rule(is("sub", "a"), "orders")];
        let mut directory = Directory::new(Rules::new(rules));
        let stranger = directory.admit(key(1)).unwrap();
        assert!(stranger.grant.may_read("news") && !stranger.grant.may_read("orders"));
        assert_eq!(stranger.subject(), "");
        directory.set_keys([(key(1), machine("a"))]);
        assert!(!stranger.holds());
        let known = directory.admit(key(1)).unwrap();
        assert!(known.grant.may_read("news") && known.grant.may_read("orders"));
    }

    #[test]
    fn a_process_is_who_the_kernel_says() {
        let directory = directory();
        let admission = directory.admit_process(1001, 7);
        assert_eq!(admission.claims.as_deref().map(Claims::issuer), Some(ISSUER_PEERCRED));
        assert!(admission.grant.may_read("local"));
        assert!(!directory.admit_process(1002, 7).grant.may_read("local"));
    }

    #[test]
    fn strangers_leave_nothing_behind() {
        let mut directory = Directory::new(Rules::new(vec![rule(Who::AnyKey, "news")]));
        let stays = directory.admit(key(1)).unwrap();
        for number in 0..3 * MIN_KEPT {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            directory.admit(PublicKey::from_bytes(bytes).unwrap()).unwrap();
        }
        assert!(directory.admitted.len() <= MIN_KEPT);
        assert!(Arc::ptr_eq(&stays, &directory.admit(key(1)).unwrap()));
    }
}
