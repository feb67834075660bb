//! Leases: keys that a token has let in, until the token ends or the lease does.
//!
//! A lease belongs to its key, not to a connection. The token is not kept; its claims are. One
//! token lets in one key: a stolen one is worthless once its owner has used it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_zmtp::curve::PublicKey;

use crate::admission::Admission;
use crate::claims::Claims;
use crate::clock::{Clock, End};
use crate::ends::{FirstEnds, Looks};
use crate::revocations::{Bearer, Revoked};
use crate::token::{TokenId, Verified, seconds};

/// The most leases.
const MAX_LEASES: usize = 65_536;
/// The most keys that one subject may have.
const KEYS_PER_SUBJECT: usize = 16;
/// The most tokens that are remembered: those that have let in a key and have not ended.
const MAX_TOKENS: usize = 4 * MAX_LEASES;
/// The most of these that one subject may have.
const TOKENS_PER_SUBJECT: usize = 4096;
/// Time for which a token is remembered after its end, in s: a clock may be set back.
const REMEMBERED: i64 = 3600;

/// The reason why a token that was verified gives no lease. All may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The token has let in another key.
    #[error("its token was used with another key")]
    TokenUsed,
    /// The key has a lease of another subject, or is known by its certificate.
    #[error("its key is another subject's")]
    KeyTaken,
    /// The subject has many keys.
    #[error("its subject has {KEYS_PER_SUBJECT} keys already")]
    TooManyKeys,
    /// The subject has used many tokens that have not ended.
    #[error("its subject has used {TOKENS_PER_SUBJECT} tokens that have not ended")]
    TooManyTokens,
    /// There are many leases, or many tokens to remember.
    #[error("there is no room for more leases or tokens")]
    Full,
}

impl LeaseError {
    /// A short name.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TokenUsed => "token_used",
            Self::KeyTaken => "key_taken",
            Self::TooManyKeys | Self::TooManyTokens | Self::Full => "busy",
        }
    }
}

/// A subject as its issuer names it.
pub(crate) type Subject = (String, String);

/// A lease.
#[derive(Debug)]
struct Lease {
    admission: Arc<Admission>,
    /// The claims of the last token, which its admission need not have.
    claims: Arc<Claims>,
    /// The time when that was issued, if it says so, and its end.
    issued: Option<i64>,
    token_expires: i64,
    /// The id of the key that signed it.
    signed_by: Option<Arc<str>>,
    token: TokenId,
    /// Its end by both clocks; whichever comes first.
    until: Instant,
    expires: i64,
}

/// A lease, to be shown.
#[derive(Clone, Debug)]
pub struct LeaseView {
    /// The key that it is of.
    pub key: PublicKey,
    /// The claims of the last token.
    pub claims: Arc<Claims>,
    /// Its end, in s since the epoch.
    pub expires: i64,
    /// Connections that are there by it.
    pub connections: usize,
}

/// A token that has let in a key, or of which its issuer has said that it is not active.
#[derive(Debug)]
struct UsedToken {
    key: PublicKey,
    subject: Subject,
    /// The id of the key that signed it.
    signed_by: Option<Arc<str>>,
    /// False if it lets in nobody any more.
    is_active: bool,
    /// The time from which on it may be forgotten. Before that it is not good for another key.
    forget: End,
}

/// The tokens and keys of a subject.
#[derive(Debug, Default)]
struct Holder {
    keys: usize,
    tokens: usize,
}

/// All leases, and the tokens that gave them.
#[derive(Debug)]
pub(crate) struct Leases {
    by_key: HashMap<PublicKey, Lease>,
    /// Their ends.
    ends: FirstEnds<PublicKey>,
    used: HashMap<TokenId, UsedToken>,
    /// The time when each of these may be forgotten.
    forgets: Looks<TokenId>,
    holders: HashMap<Subject, Holder>,
    max_lease: Duration,
    /// Largest difference between the clocks of issuers and ours.
    skew: Duration,
}

impl Lease {
    fn is_over(&self, clock: Clock) -> bool {
        clock.now >= self.until || clock.wall >= self.expires
    }

    fn bearer<'a>(&'a self, key: &'a PublicKey) -> Bearer<'a> {
        let (claims, signed_by) = (Some(&*self.claims), self.signed_by.as_deref());
        Bearer { key, claims, issued: self.issued, signed_by }
    }
}

pub(crate) fn subject_of(claims: &Claims) -> Subject {
    (claims.issuer().to_owned(), claims.subject().to_owned())
}

impl Leases {
    /// No lease lives longer than `max_lease`, or longer than its token and `skew`.
    pub(crate) fn new(max_lease: Duration, skew: Duration) -> Self {
        Self {
            by_key: HashMap::new(),
            ends: FirstEnds::default(),
            used: HashMap::new(),
            forgets: Looks::default(),
            holders: HashMap::new(),
            max_lease,
            skew,
        }
    }

    /// The admission of a key's lease, if it lives.
    pub(crate) fn live(&self, key: &PublicKey, clock: Clock) -> Option<&Arc<Admission>> {
        self.by_key.get(key).filter(|lease| !lease.is_over(clock)).map(|lease| &lease.admission)
    }

    /// Returns the time from which on a token lets in no key, in s since the epoch.
    pub(crate) fn token_end(&self, verified: &Verified) -> i64 {
        verified.expires.saturating_add(seconds(self.skew))
    }

    /// Returns true if a token that ends then would begin a key's lease, or move its end.
    pub(crate) fn would_extend(&self, key: &PublicKey, expires: i64, clock: Clock) -> bool {
        let lease = self.by_key.get(key).filter(|lease| !lease.is_over(clock));
        lease.is_none_or(|lease| expires > lease.token_expires)
    }

    /// Returns true if a verified token would move the end of a key's lease by more than what is
    /// left of it, or is one that ends later than the one before.
    pub(crate) fn would_prolong(&self, key: &PublicKey, verified: &Verified, clock: Clock) -> bool {
        let end = verified.lease_end(clock.wall, self.max_lease, self.skew);
        let is_worth_it = |lease: &Lease| {
            let left = lease.expires.saturating_sub(clock.wall);
            end.saturating_sub(lease.expires) >= left
        };
        self.would_extend(key, verified.expires, clock)
            || self.by_key.get(key).is_none_or(is_worth_it)
    }

    /// Returns an error unless a token may let in a key.
    pub(crate) fn check(
        &self,
        key: &PublicKey,
        verified: &Verified,
        clock: Clock,
    ) -> Result<(), LeaseError> {
        let known = self.used.get(&verified.id);
        let subject = subject_of(&verified.claims);
        // An issuer may give the id of a token twice; the one that was used is the first.
        let is_other = |used: &UsedToken| used.key != *key || used.subject != subject;
        if known.is_some_and(is_other) && !zafka_planted::is("a-token-lets-in-any-key") {
            return Err(LeaseError::TokenUsed);
        }
        let holder = self.holders.get(&subject);
        if known.is_none() {
            if holder.is_some_and(|holder| holder.tokens >= TOKENS_PER_SUBJECT) {
                return Err(LeaseError::TooManyTokens);
            }
            if self.used.len() >= MAX_TOKENS {
                return Err(LeaseError::Full);
            }
        }
        let before = self.by_key.get(key);
        if before.is_some_and(|lease| subject_of(&lease.claims) == subject) {
            return Ok(());
        }
        if before.is_some_and(|lease| !lease.is_over(clock)) {
            return Err(LeaseError::KeyTaken);
        }
        if holder.is_some_and(|holder| holder.keys >= KEYS_PER_SUBJECT) {
            return Err(LeaseError::TooManyKeys);
        }
        if before.is_none() && self.by_key.len() >= MAX_LEASES {
            return Err(LeaseError::Full);
        }
        Ok(())
    }

    /// Returns true if its issuer has said that a token is not active.
    pub(crate) fn is_inactive(&self, id: &TokenId) -> bool {
        let is_known = self.used.get(id).is_some_and(|used| !used.is_active);
        is_known && !zafka_planted::is("an-inactive-token-comes-back")
    }

    /// Takes note that the token that gave a key its lease is not active. Ends that lease, unless
    /// another token has given it since, and returns its admission.
    pub(crate) fn end_inactive(&mut self, key: &PublicKey, id: &TokenId) -> Option<Arc<Admission>> {
        if let Some(used) = self.used.get_mut(id) {
            used.is_active = false;
        }
        self.by_key.get(key).filter(|lease| lease.token == *id)?;
        if zafka_planted::is("an-inactive-token-ends-nothing") {
            return None;
        }
        self.remove(key)
    }

    /// Takes note that a token is not active, which may have given no lease yet. One that there is
    /// no room for is asked about again.
    pub(crate) fn refuse_inactive(&mut self, key: PublicKey, verified: &Verified, clock: Clock) {
        if let Some(used) = self.used.get_mut(&verified.id) {
            used.is_active = false;
        } else if self.check(&key, verified, clock).is_ok() {
            self.remember(key, verified, false, clock);
        }
    }

    /// Begins a lease that may begin, or moves its end. Returns the admission that it had before,
    /// if that was another one.
    pub(crate) fn set(
        &mut self,
        key: PublicKey,
        verified: &Verified,
        admission: &Arc<Admission>,
        clock: Clock,
    ) -> Option<Arc<Admission>> {
        let before = self.remove(&key);
        self.remember(key, verified, true, clock);
        self.holders.entry(subject_of(&verified.claims)).or_default().keys += 1;
        let expires = verified.lease_end(clock.wall, self.max_lease, self.skew);
        let left = u64::try_from(expires.saturating_sub(clock.wall)).unwrap_or(0);
        let until = clock.now + Duration::from_secs(left);
        admission.set_until(expires);
        let lease = Lease {
            admission: Arc::clone(admission),
            claims: Arc::new(verified.claims.clone()),
            issued: verified.issued,
            token_expires: verified.expires,
            signed_by: verified.signed_by.clone(),
            token: verified.id,
            until,
            expires,
        };
        self.ends.insert(key, until, expires);
        self.by_key.insert(key, lease);
        before.filter(|before| !Arc::ptr_eq(before, admission))
    }

    /// Remembers a token until some time after its end.
    fn remember(&mut self, key: PublicKey, verified: &Verified, is_active: bool, clock: Clock) {
        let subject = subject_of(&verified.claims);
        let forget = End::new(self.token_end(verified).saturating_add(REMEMBERED), clock);
        let signed_by = verified.signed_by.clone();
        let used = UsedToken { key, subject: subject.clone(), signed_by, is_active, forget };
        let is_new = self.used.insert(verified.id, used).is_none();
        if is_new {
            self.forgets.add(verified.id, forget, clock);
        }
        self.holders.entry(subject).or_default().tokens += usize::from(is_new);
    }

    /// Gives a key's lease another admission until the same end, and returns the one that it had.
    pub(crate) fn replace(
        &mut self,
        key: &PublicKey,
        admission: Arc<Admission>,
    ) -> Option<Arc<Admission>> {
        let lease = self.by_key.get_mut(key)?;
        admission.set_until(lease.expires);
        Some(std::mem::replace(&mut lease.admission, admission))
    }

    /// Takes out a key's lease.
    pub(crate) fn remove(&mut self, key: &PublicKey) -> Option<Arc<Admission>> {
        let lease = self.by_key.remove(key)?;
        self.ends.remove(*key, lease.until, lease.expires);
        let subject = subject_of(&lease.claims);
        self.let_go(&subject, |holder| holder.keys = holder.keys.saturating_sub(1));
        Some(lease.admission)
    }

    /// Takes out the leases that a revocation means. Returns their admissions, and the end of the
    /// last token that it means, if one is known: it may have been shown for another lease.
    pub(crate) fn revoke(&mut self, what: &Revoked) -> (Vec<Arc<Admission>>, Option<i64>) {
        let meant = self.by_key.iter().filter(|(key, lease)| what.means(lease.bearer(key)));
        let meant: Vec<_> = meant.map(|(key, lease)| (*key, lease.token_expires)).collect();
        let skew = seconds(self.skew);
        let ends = meant.iter().map(|(_, expires)| expires.saturating_add(skew));
        let used = self.used.values().filter(|used| match what {
            Revoked::Key(key) => used.key == *key,
            Revoked::Subject { issuer, subject } => {
                used.subject.1 == *subject
                    && issuer.as_ref().is_none_or(|issuer| used.subject.0 == *issuer)
            }
            Revoked::SignedBy { issuer, id } => {
                used.subject.0 == *issuer && used.signed_by.as_deref() == Some(id)
            }
            Revoked::Token { .. } | Revoked::IssuedBefore { .. } => false,
        });
        let used = used.map(|used| used.forget.wall.saturating_sub(REMEMBERED));
        let end = ends.chain(used).max();
        (meant.iter().filter_map(|(key, _)| self.remove(key)).collect(), end)
    }

    /// All leases that live, in no order.
    pub(crate) fn views(&self, clock: Clock) -> impl Iterator<Item = LeaseView> {
        self.by_key.iter().filter(move |(_, lease)| !lease.is_over(clock)).map(|(key, lease)| {
            LeaseView {
                key: *key,
                claims: Arc::clone(&lease.claims),
                expires: lease.expires,
                // One is the lease's own.
                connections: Arc::strong_count(&lease.admission) - 1,
            }
        })
    }

    /// Takes out the leases that are over, and forgets tokens that have ended: they let in no peer.
    pub(crate) fn take_over(&mut self, clock: Clock) -> Vec<Arc<Admission>> {
        while let Some(id) = self.forgets.take_due(clock) {
            match self.used.get(&id).map(|used| used.forget) {
                Some(forget) if !forget.is_over(clock) => self.forgets.add(id, forget, clock),
                _ => self.forget(&id),
            }
        }
        let mut over = Vec::new();
        while let Some(admission) = self.ends.first_over(clock).and_then(|key| self.remove(&key)) {
            over.push(admission);
        }
        over
    }

    fn forget(&mut self, id: &TokenId) {
        if let Some(UsedToken { subject, .. }) = self.used.remove(id) {
            self.let_go(&subject, |holder| holder.tokens = holder.tokens.saturating_sub(1));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The number of tokens and subjects that are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.used.len(), self.holders.len())
    }

    fn let_go(&mut self, subject: &Subject, change: impl Fn(&mut Holder)) {
        let Some(holder) = self.holders.get_mut(subject) else { return };
        change(holder);
        if holder.keys == 0 && holder.tokens == 0 {
            self.holders.remove(subject);
        }
    }
}
