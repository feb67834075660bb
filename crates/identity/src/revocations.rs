//! Revocations: keys, subjects and tokens that are no longer let in, even if a rule or a lease
//! would admit them.
//!
//! A revocation holds until a time, and at least until the last token that it concerns and that was
//! shown here has ended: otherwise that token would undo it.

use std::collections::HashMap;
use std::fmt;

use zafka_zmtp::curve::PublicKey;

use crate::claims::{Claims, shown};
use crate::clock::{Clock, End};
use crate::ends::Looks;

/// The most revocations.
const MAX_REVOCATIONS: usize = 65_536;

/// The object of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    /// A key.
    Key(PublicKey),
    /// A subject; of every issuer without one.
    Subject {
        /// Its issuer.
        issuer: Option<String>,
        /// Its name.
        subject: String,
    },
    /// A token by its id (`jti`); of every issuer without one.
    Token {
        /// Its issuer.
        issuer: Option<String>,
        /// Its id.
        id: String,
    },
    /// The tokens that a key of an issuer signed.
    SignedBy {
        /// The issuer.
        issuer: String,
        /// The key's id (`kid`).
        id: String,
    },
    /// The tokens of an issuer that were issued before a time, and those that do not say when.
    IssuedBefore {
        /// The issuer.
        issuer: String,
        /// Time of the revocation in s since the epoch.
        time: i64,
    },
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |issuer: &Option<String>| match issuer {
            Some(issuer) => format!(" of {}", shown(issuer)),
            None => String::new(),
        };
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Subject { issuer, subject } => {
                write!(f, "subject {}{}", shown(subject), of(issuer))
            }
            Self::Token { issuer, id } => write!(f, "token {}{}", shown(id), of(issuer)),
            Self::SignedBy { issuer, id } => {
                write!(f, "tokens of {} signed by key {}", shown(issuer), shown(id))
            }
            Self::IssuedBefore { issuer, time } => {
                write!(f, "tokens of {} issued before {time}", shown(issuer))
            }
        }
    }
}

/// There is no room for another revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_REVOCATIONS} revocations already")]
pub struct TooManyRevocations;

/// A key, and what speaks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearer<'a> {
    pub(crate) key: &'a PublicKey,
    /// Claims of the key's owner; `None` if nothing is known of the key.
    pub(crate) claims: Option<&'a Claims>,
    /// The time when its token was issued, if it says so.
    pub(crate) issued: Option<i64>,
    /// The id of its issuer's key that signed it, if that has one.
    pub(crate) signed_by: Option<&'a str>,
}

impl Bearer<'_> {
    /// Returns true if its token was issued before a time, or does not say when.
    fn is_older_than(&self, time: i64) -> bool {
        self.issued.is_none_or(|issued| issued < time)
    }
}

impl Revoked {
    /// Returns true if this revokes a key or its owner, who has these claims.
    pub(crate) fn means(&self, bearer: Bearer<'_>) -> bool {
        let fits = |issuer: &Option<String>, claims: &Claims| {
            issuer.as_deref().is_none_or(|issuer| issuer == claims.issuer())
        };
        match (self, bearer.claims) {
            (Self::Key(key), _) => bearer.key == key,
            (Self::Subject { issuer, subject }, Some(claims)) => {
                claims.subject() == subject && fits(issuer, claims)
            }
            (Self::Token { issuer, id }, Some(claims)) => {
                claims.token_id() == Some(id) && fits(issuer, claims)
            }
            (Self::SignedBy { issuer, id }, Some(claims)) => {
                claims.issuer() == issuer && bearer.signed_by == Some(id)
            }
            (Self::IssuedBefore { issuer, time }, Some(claims)) => {
                claims.issuer() == issuer && bearer.is_older_than(*time)
            }
            (_, None) => false,
        }
    }
}

/// All revocations, each with its end.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// Revocations of keys, subjects, tokens and issuers' keys, by what they revoke.
    exact: HashMap<Revoked, End>,
    /// Revocations of an issuer's tokens: the latest time, and its end.
    cuts: HashMap<String, (i64, End)>,
    /// The time when each of these may be forgotten.
    forgets: Looks<Revoked>,
}

impl Revocations {
    /// Takes a revocation, which holds until then (in s since the epoch); one of the same is not
    /// shortened. Returns its end.
    pub(crate) fn add(
        &mut self,
        what: Revoked,
        until: i64,
        clock: Clock,
    ) -> Result<i64, TooManyRevocations> {
        let until = End::new(until, clock);
        let is_known = match &what {
            Revoked::IssuedBefore { issuer, .. } => self.cuts.contains_key(issuer),
            exact => self.exact.contains_key(exact),
        };
        if !is_known && self.len() >= MAX_REVOCATIONS {
            return Err(TooManyRevocations);
        }
        if !is_known {
            self.forgets.add(what.clone(), until, clock);
        }
        let end = match what {
            Revoked::IssuedBefore { issuer, time } => {
                let cut = self.cuts.entry(issuer).or_insert((time, until));
                cut.0 = cut.0.max(time);
                cut.1.prolong(until);
                cut.1.wall
            }
            exact => {
                let end = self.exact.entry(exact).or_insert(until);
                end.prolong(until);
                end.wall
            }
        };
        Ok(end)
    }

    /// Returns true if a key or its owner is revoked. If a token that ends later than the
    /// revocation speaks for it, that holds for as long as the token.
    pub(crate) fn mean(
        &mut self,
        bearer: Bearer<'_>,
        token_end: Option<i64>,
        clock: Clock,
    ) -> bool {
        if self.exact.is_empty() && self.cuts.is_empty() {
            return false;
        }
        let mut is_meant = false;
        let mut meet = |end: &mut End| {
            if let Some(token_end) = token_end
                && !zafka_planted::is("a-token-comes-back")
            {
                end.prolong(End::new(token_end, clock));
            }
            is_meant = true;
        };
        for what in names(bearer) {
            if let Some(end) = self.exact.get_mut(&what) {
                meet(end);
            }
        }
        if let Some(claims) = bearer.claims
            && let Some((time, end)) = self.cuts.get_mut(claims.issuer())
            && bearer.is_older_than(*time)
        {
            meet(end);
        }
        is_meant
    }

    /// Returns true if this key itself is revoked.
    pub(crate) fn has_key(&self, key: &PublicKey) -> bool {
        !self.exact.is_empty() && self.exact.contains_key(&Revoked::Key(*key))
    }

    /// Forgets revocations that are over.
    pub(crate) fn forget(&mut self, clock: Clock) {
        while let Some(what) = self.forgets.take_due(clock) {
            let end = match &what {
                Revoked::IssuedBefore { issuer, .. } => self.cuts.get(issuer).map(|(_, end)| *end),
                exact => self.exact.get(exact).copied(),
            };
            match (end, &what) {
                // It has met a token that ends later.
                (Some(end), _) if !end.is_over(clock) => self.forgets.add(what, end, clock),
                (_, Revoked::IssuedBefore { issuer, .. }) => drop(self.cuts.remove(issuer)),
                (_, exact) => drop(self.exact.remove(exact)),
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.exact.len() + self.cuts.len()
    }
}

/// All revocations by which a key can be meant, but those of an issuer's tokens.
fn names(bearer: Bearer<'_>) -> impl Iterator<Item = Revoked> {
    let of_key = std::iter::once(Revoked::Key(*bearer.key));
    let of_claims = bearer.claims.into_iter().flat_map(|claims| {
        let issuers = [None, Some(claims.issuer().to_owned())];
        issuers.into_iter().flat_map(move |issuer| {
            let subject =
                Revoked::Subject { issuer: issuer.clone(), subject: claims.subject().to_owned() };
            let id = claims.token_id().map(str::to_owned);
            [Some(subject), id.map(|id| Revoked::Token { issuer, id })].into_iter().flatten()
        })
    });
    let of_signer = bearer.claims.zip(bearer.signed_by).map(|(claims, id)| Revoked::SignedBy {
        issuer: claims.issuer().to_owned(),
        id: id.to_owned(),
    });
    of_key.chain(of_claims).chain(of_signer)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;
    use zafka_zmtp::curve::SecretKey;

    use super::*;

    fn key_of(number: u8) -> PublicKey {
        SecretKey::from_bytes([number; 32]).public_key()
    }

    /// The owner of a key that shows a token of these claims, signed by `k-1`.
    fn bearer<'a>(key: &'a PublicKey, claims: &'a Claims, issued: Option<i64>) -> Bearer<'a> {
        Bearer { key, claims: Some(claims), issued, signed_by: Some("k-1") }
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
    fn at(wall: i64) -> Clock {
        Clock { now: Instant::now(), wall }
    }

    fn after(clock: Clock, seconds: u32) -> Clock {
        let now = clock.now + Duration::from_secs(seconds.into());
        Clock { now, wall: clock.wall + i64::from(seconds) }
    }

    #[test]
    fn what_is_meant() {
        let (key, strange) = (key_of(1), key_of(3));
        let id = || Some(text("https://id"));
        let claims = Claims::new("https://id", "alice", [(text("jti"), json!("t-1"))]);
        let other = Claims::new("https://other", "bob", []);
        let subject = |issuer, subject: &str| Revoked::Subject { issuer, subject: text(subject) };
        let token = |issuer, id: &str| Revoked::Token { issuer, id: text(id) };
        let cut = |issuer: &str, time| Revoked::IssuedBefore { issuer: text(issuer), time };
        let signed =
            |issuer: &str, id: &str| Revoked::SignedBy { issuer: text(issuer), id: text(id) };
        for (what, is_meant) in [
            (Revoked::Key(key), true),
            (Revoked::Key(key_of(2)), false),
            (subject(None, "alice"), true),
            (subject(id(), "alice"), true),
            (subject(Some(text("https://id/")), "alice"), false),
            (subject(None, "Alice"), false),
            (token(None, "t-1"), true),
            (token(id(), "t-1"), true),
            (token(None, "alice"), false),
            (cut("https://id", 101), true),
            (cut("https://id", 100), false),
            (cut("https://other", 101), false),
            (signed("https://id", "k-1"), true),
            (signed("https://id", "k-2"), false),
            (signed("https://other", "k-1"), false),
        ] {
            let bearer = bearer(&key, &claims, Some(100));
            let stranger = Bearer { key: &strange, claims: Some(&other), ..bearer };
            let (mut all, clock) = (Revocations::default(), at(0));
            assert!(!all.mean(bearer, None, clock));
            all.add(what.clone(), 50, clock).unwrap();
            assert_eq!(
                (all.mean(bearer, None, clock), what.means(bearer)),
                (is_meant, is_meant),
                "{what}"
            );
            let is_other = matches!(&what, Revoked::IssuedBefore { issuer, .. }
                | Revoked::SignedBy { issuer, .. } if issuer == "https://other");
            assert_eq!(all.mean(stranger, None, clock), is_other, "{what}");
            all.forget(after(clock, 50));
            assert_eq!(all.len(), 0);
        }
        // One that does not say when it was issued may be any.
        let undated = bearer(&strange, &claims, None);
        assert!(cut("https://id", 0).means(undated));
        // One of a key without an id is signed by none that can be named.
        let unnamed = Bearer { signed_by: None, ..undated };
        assert!(!signed("https://id", "").means(unnamed));
        let nobody = Bearer { key: &key, claims: None, ..unnamed };
        assert!(Revoked::Key(key).means(nobody) && !subject(None, "").means(nobody));
    }

    #[test]
    fn a_revocation_lasts_as_long_as_what_it_means() {
        let claims = Claims::new("https://id", "alice", []);
        let key = key_of(1);
        let bearer = bearer(&key, &claims, Some(5));
        let subject = Revoked::Subject { issuer: None, subject: text("alice") };
        let cut = |time| Revoked::IssuedBefore { issuer: text("https://id"), time };
        let (mut all, clock) = (Revocations::default(), at(0));
        assert_eq!(all.add(subject.clone(), 100, clock), Ok(100));
        assert_eq!(all.add(subject, 50, clock), Ok(100), "it is not shortened");
        assert_eq!((all.add(cut(10), 100, clock), all.add(cut(5), 90, clock)), (Ok(100), Ok(100)));
        assert!(all.mean(bearer, Some(300), clock));
        all.forget(after(clock, 299));
        assert_eq!(all.len(), 2);
        // Neither clock by itself ends them: the one may be set, the other one may stand still.
        all.forget(Clock { wall: 10_000, ..after(clock, 299) });
        all.forget(Clock { wall: 299, ..after(clock, 10_000) });
        assert_eq!(all.len(), 2);
        all.forget(Clock { wall: 300, ..after(clock, 10_001) });
        assert_eq!(all.len(), 0);
        for number in 0..MAX_REVOCATIONS {
            all.add(Revoked::Token { issuer: None, id: number.to_string() }, 1, clock).unwrap();
        }
        assert_eq!(all.add(Revoked::Key(key), 1, clock), Err(TooManyRevocations));
        assert_eq!(all.add(Revoked::Token { issuer: None, id: text("7") }, 9, clock), Ok(9));
    }
}
