//! Revocations: keys, subjects and tokens that are not let in any more, whatever else speaks for
//! them.
//!
//! A revocation holds until a time, and at least until the last token that it concerns and that was
//! shown here has ended: otherwise that token would undo it.

use std::collections::HashMap;
use std::fmt;

use zafka_zmtp::curve::PublicKey;

use crate::claims::{Claims, shown};

/// The most revocations.
const MAX_REVOCATIONS: usize = 65_536;

/// The object of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// The tokens of an issuer that were issued before a time, and those that do not say when.
    IssuedBefore {
        /// The issuer.
        issuer: String,
        /// In s since the epoch.
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
    pub(crate) key: Option<&'a PublicKey>,
    /// None of a key of which nothing is known.
    pub(crate) claims: Option<&'a Claims>,
    /// The time when its token was issued, if it says so.
    pub(crate) issued: Option<i64>,
}

impl Revoked {
    /// Returns true if the owner of this key, for whom these claims speak, is meant.
    pub(crate) fn means(&self, bearer: Bearer<'_>) -> bool {
        let fits = |issuer: &Option<String>, claims: &Claims| {
            issuer.as_deref().is_none_or(|issuer| issuer == claims.issuer())
        };
        match (self, bearer.claims) {
            (Self::Key(key), _) => bearer.key == Some(key),
            (Self::Subject { issuer, subject }, Some(claims)) => {
                claims.subject() == subject && fits(issuer, claims)
            }
            (Self::Token { issuer, id }, Some(claims)) => {
                claims.token_id() == Some(id) && fits(issuer, claims)
            }
            (Self::IssuedBefore { issuer, time }, Some(claims)) => {
                claims.issuer() == issuer && bearer.issued.is_none_or(|issued| issued < *time)
            }
            (_, None) => false,
        }
    }
}

/// All revocations, each with the time until which it holds, in s since the epoch.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    /// Of keys, subjects and tokens: found by what they mean.
    exact: HashMap<Revoked, i64>,
    /// Of the tokens of an issuer: the latest time, and its end.
    cuts: HashMap<String, (i64, i64)>,
}

impl Revocations {
    /// Takes a revocation, which holds until then; one of the same is not shortened. Returns its
    /// end.
    pub(crate) fn add(&mut self, what: Revoked, until: i64) -> Result<i64, TooManyRevocations> {
        let is_known = match &what {
            Revoked::IssuedBefore { issuer, .. } => self.cuts.contains_key(issuer),
            exact => self.exact.contains_key(exact),
        };
        if !is_known && self.len() >= MAX_REVOCATIONS {
            return Err(TooManyRevocations);
        }
        let end = match what {
            Revoked::IssuedBefore { issuer, time } => {
                let cut = self.cuts.entry(issuer).or_insert((time, until));
                *cut = (cut.0.max(time), cut.1.max(until));
                cut.1
            }
            exact => {
                let end = self.exact.entry(exact).or_insert(until);
                *end = (*end).max(until);
                *end
            }
        };
        Ok(end)
    }

    /// Returns true if a key is revoked, or who has it. If a token that ends later than the
    /// revocation speaks for it, that holds for as long as the token.
    pub(crate) fn mean(&mut self, bearer: Bearer<'_>, token_end: Option<i64>) -> bool {
        if self.exact.is_empty() && self.cuts.is_empty() {
            return false;
        }
        let mut is_meant = false;
        let mut meet = |end: &mut i64| {
            if !zafka_planted::is("a-token-comes-back") {
                *end = (*end).max(token_end.unwrap_or(*end));
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
            && bearer.issued.is_none_or(|issued| issued < *time)
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
    pub(crate) fn forget(&mut self, wall: i64) {
        self.exact.retain(|_, until| *until > wall);
        self.cuts.retain(|_, (_, until)| *until > wall);
    }

    pub(crate) fn len(&self) -> usize {
        self.exact.len() + self.cuts.len()
    }
}

/// All revocations by which a key can be meant, but those of an issuer's tokens.
fn names(bearer: Bearer<'_>) -> impl Iterator<Item = Revoked> {
    let of_key = bearer.key.map(|key| Revoked::Key(*key));
    let of_claims = bearer.claims.into_iter().flat_map(|claims| {
        let issuers = [None, Some(claims.issuer().to_owned())];
        issuers.into_iter().flat_map(move |issuer| {
            let subject =
                Revoked::Subject { issuer: issuer.clone(), subject: claims.subject().to_owned() };
            let id = claims.token_id().map(str::to_owned);
            [Some(subject), id.map(|id| Revoked::Token { issuer, id })].into_iter().flatten()
        })
    });
    of_key.into_iter().chain(of_claims)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zafka_zmtp::curve::SecretKey;

    use super::*;

    fn key(number: u8) -> PublicKey {
        SecretKey::from_bytes([number; 32]).public_key()
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn what_is_meant() {
        let id = || Some(text("https://id"));
        let claims = Claims::new("https://id", "alice", [(text("jti"), json!("t-1"))]);
        let other = Claims::new("https://other", "bob", []);
        let subject = |issuer, subject: &str| Revoked::Subject { issuer, subject: text(subject) };
        let token = |issuer, id: &str| Revoked::Token { issuer, id: text(id) };
        let cut = |issuer: &str, time| Revoked::IssuedBefore { issuer: text(issuer), time };
        for (what, is_meant) in [
            (Revoked::Key(key(1)), true),
            (Revoked::Key(key(2)), false),
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
        ] {
            let bearer = Bearer { key: Some(&key(1)), claims: Some(&claims), issued: Some(100) };
            let stranger = Bearer { key: Some(&key(3)), claims: Some(&other), issued: Some(100) };
            let mut all = Revocations::default();
            assert!(!all.mean(bearer, None));
            all.add(what.clone(), 50).unwrap();
            assert_eq!(
                (all.mean(bearer, None), what.means(bearer)),
                (is_meant, is_meant),
                "{what}"
            );
            let is_cut =
                matches!(&what, Revoked::IssuedBefore { issuer, .. } if issuer == "https://other");
            assert_eq!(all.mean(stranger, None), is_cut, "{what}");
            all.forget(50);
            assert_eq!(all.len(), 0);
        }
        // One that does not say when it was issued may be any.
        let bearer = Bearer { key: None, claims: Some(&claims), issued: None };
        assert!(cut("https://id", 0).means(bearer));
        let nobody = Bearer { key: Some(&key(1)), claims: None, issued: None };
        assert!(Revoked::Key(key(1)).means(nobody) && !subject(None, "").means(nobody));
    }

    #[test]
    fn a_revocation_lasts_as_long_as_what_it_means() {
        let claims = Claims::new("https://id", "alice", []);
        let bearer = Bearer { key: Some(&key(1)), claims: Some(&claims), issued: Some(5) };
        let subject = Revoked::Subject { issuer: None, subject: text("alice") };
        let cut = |time| Revoked::IssuedBefore { issuer: text("https://id"), time };
        let mut all = Revocations::default();
        assert_eq!(all.add(subject.clone(), 100), Ok(100));
        assert_eq!(all.add(subject, 50), Ok(100), "it is not shortened");
        assert_eq!((all.add(cut(10), 100), all.add(cut(5), 90)), (Ok(100), Ok(100)));
        assert!(all.mean(bearer, Some(300)));
        all.forget(299);
        assert_eq!(all.len(), 2);
        all.forget(300);
        assert_eq!(all.len(), 0);
        for number in 0..MAX_REVOCATIONS {
            all.add(Revoked::Token { issuer: None, id: number.to_string() }, 1).unwrap();
        }
        assert_eq!(all.add(Revoked::Key(key(1)), 1), Err(TooManyRevocations));
        assert_eq!(all.add(Revoked::Token { issuer: None, id: text("7") }, 9), Ok(9));
    }
}
