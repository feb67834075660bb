//! The directory of known keys, which admits peers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use zafka_zmtp::curve::PublicKey;

use crate::access::{Grant, KafkaTopics, Rules};
use crate::admission::Admission;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::leases::{LeaseError, LeaseView, Leases};
use crate::revocations::{Bearer, Revocations, Revoked, TooManyRevocations};
use crate::shared_answers::SharedAnswers;
use crate::token::{TokenError, TokenId, Verified};

/// The reason why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is unknown. It may be known later, so that the peer may try again.
    #[error("its key is not known")]
    UnknownKey,
    /// Its token is not taken.
    #[error("its token is not taken: {0}")]
    Token(TokenError),
    /// Its token is good, and gives no lease.
    #[error("it gets no lease: {0}")]
    Lease(LeaseError),
    /// It is kept out by a revocation, with any token.
    #[error("it was revoked")]
    Revoked,
    /// Its token is good, and Kafka decides what it may do: there is no lease before the answer.
    #[error("Kafka is asked what it may do")]
    AsksKafka,
    /// The same, and there was no answer.
    #[error("Kafka could not be asked what it may do")]
    NotAnswered,
    /// Its token is good, and its issuer has to say that it is active: there is no lease before.
    #[error("its issuer is asked whether its token is active")]
    AsksIssuer,
    /// The same, and there was no answer.
    #[error("its issuer could not be asked whether its token is active")]
    NotConfirmed,
    /// Its issuer says that its token is not active, whatever the token itself says.
    #[error("its issuer says that its token is not active")]
    Inactive,
}

impl Refusal {
    /// Returns true if something else than the peer's own doing could change the answer.
    pub fn may_pass(self) -> bool {
        match self {
            Self::UnknownKey | Self::Lease(_) => true,
            Self::AsksKafka | Self::NotAnswered | Self::AsksIssuer | Self::NotConfirmed => true,
            Self::Revoked | Self::Inactive => false,
            Self::Token(error) => error.may_pass(),
        }
    }

    /// A short name.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::Token(error) => error.code(),
            Self::Lease(error) => error.code(),
            Self::Revoked | Self::Inactive => "revoked",
            Self::AsksKafka | Self::NotAnswered | Self::AsksIssuer | Self::NotConfirmed => {
                "try_again"
            }
        }
    }

    /// Returns true if the peer is on its way in: somebody is asked about its token.
    pub const fn is_on_its_way(self) -> bool {
        matches!(self, Self::AsksKafka | Self::AsksIssuer)
    }
}

/// The effect of a token on the lease of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease began.
    Begun,
    /// A lease got a later end.
    Renewed,
    /// No change: the key was in already.
    Unchanged,
}

/// A lease that a token gave.
#[derive(Debug)]
pub struct Leased {
    /// The peer that was let in.
    pub admission: Arc<Admission>,
    /// The effect on its lease.
    pub change: LeaseChange,
    /// The admission that it had before, if its rights are others now: that one has ended.
    pub ended: Option<Arc<Admission>>,
}

/// A revocation that was done.
#[derive(Debug)]
pub struct Revocation {
    /// The admissions that have ended by it.
    pub ended: Vec<Arc<Admission>>,
    /// The time until which it holds, in s since the epoch.
    pub until: i64,
}

/// Admissions that are looked through at the least before those without a connection are forgotten.
const MIN_KEPT: usize = 1024;

/// The keys that are known, and the rules.
#[derive(Debug)]
pub struct Directory {
    rules: Rules,
    keys: HashMap<PublicKey, Arc<Claims>>,
    leases: Leases,
    revocations: Revocations,
    /// Kafka's answers that leases have.
    answers: SharedAnswers<KafkaTopics>,
    /// The admission of each key that is in: all connections of a key have one. An admission that
    /// is no longer held is forgotten, for any peer can make keys.
    admitted: HashMap<PublicKey, Weak<Admission>>,
    /// The number of admissions at which unused ones are removed.
    max_admitted: usize,
}

impl Directory {
    /// A directory in which no key is known yet. Leases by tokens last for `max_lease` at most; the
    /// clocks of issuers may differ by `skew`.
    pub fn new(rules: Rules, max_lease: Duration, skew: Duration) -> Self {
        let (keys, admitted) = (HashMap::new(), HashMap::new());
        let leases = Leases::new(max_lease, skew);
        let revocations = Revocations::default();
        let (answers, max_admitted) = (SharedAnswers::default(), MIN_KEPT);
        Self { rules, keys, leases, revocations, answers, admitted, max_admitted }
    }

    /// Keeps out the peers that a revocation concerns, until then (in s since the epoch) or until
    /// the last token that it concerns and that was shown here has ended. Their leases and
    /// admissions end.
    ///
    /// # Errors
    /// There are many revocations already.
    pub fn revoke(
        &mut self,
        what: &Revoked,
        until: i64,
        clock: Clock,
    ) -> Result<Revocation, TooManyRevocations> {
        self.revocations.forget(clock);
        let until = self.revocations.add(what.clone(), until, clock)?;
        let (mut ended, token_end) = self.leases.revoke(what);
        let until = match token_end {
            Some(end) => self.revocations.add(what.clone(), end, clock)?.max(until),
            None => until,
        };
        // Those of keys that are known by a certificate, or that any rule lets in.
        self.admitted.retain(|key, admission| {
            let Some(admission) = admission.upgrade() else { return false };
            let claims = admission.claims.as_deref();
            let is_meant = what.means(Bearer { key, claims, issued: None, signed_by: None });
            if is_meant {
                ended.push(admission);
            }
            !is_meant
        });
        if !zafka_planted::is("a-revocation-closes-nobody") {
            ended.iter().for_each(|admission| admission.end());
        }
        Ok(Revocation { ended, until })
    }

    /// Returns true if a token that the owner of a key shows, and that says that it ends then, is
    /// to be verified: if it would begin a lease, or move its end. A libzmq socket shows its first
    /// token for ever. A key that is known by its certificate needs none, and none helps one that
    /// is revoked. One whose end cannot be read is verified, so that its fault is reported.
    pub fn wants_token(&self, key: &PublicKey, claimed_end: Option<i64>, clock: Clock) -> bool {
        let end = claimed_end.unwrap_or(i64::MAX);
        let is_settled = self.keys.contains_key(key) || self.revocations.has_key(key);
        !is_settled && self.leases.would_extend(key, end, clock)
    }

    /// Returns an error if a token or its bearer is revoked.
    fn check_revoked(
        &mut self,
        key: &PublicKey,
        verified: &Verified,
        clock: Clock,
    ) -> Result<(), Refusal> {
        let claims = Some(&verified.claims);
        let signed_by = verified.signed_by.as_deref();
        let bearer = Bearer { key, claims, issued: verified.issued, signed_by };
        let end = self.leases.token_end(verified);
        if self.revocations.mean(bearer, Some(end), clock) {
            return Err(Refusal::Revoked);
        }
        if self.leases.is_inactive(&verified.id) { Err(Refusal::Inactive) } else { Ok(()) }
    }

    /// Takes a token that was verified for this key: its lease begins, or moves its end.
    ///
    /// # Errors
    /// The token gives no lease, or none before Kafka has answered.
    pub fn lease(
        &mut self,
        key: PublicKey,
        verified: &Verified,
        clock: Clock,
    ) -> Result<Leased, Refusal> {
        let is_wanted = self.leases.would_extend(&key, verified.expires, clock);
        self.lease_if(is_wanted, key, verified, None, clock)
    }

    /// Takes a token that has waited: its issuer has said that it is active, if it had to, and
    /// Kafka has answered on its owner, if there is an answer.
    ///
    /// # Errors
    /// It gives no lease any more, or none before Kafka has answered.
    pub fn lease_with(
        &mut self,
        key: PublicKey,
        verified: &Verified,
        answer: Option<&KafkaTopics>,
        clock: Clock,
    ) -> Result<Leased, Refusal> {
        let is_wanted = self.leases.would_prolong(&key, verified, clock);
        let confirmed = Verified { is_to_confirm: false, ..verified.clone() };
        self.lease_if(is_wanted, key, &confirmed, answer, clock)
    }

    /// Begins or renews the lease of a key if that is wanted. The token was verified without the
    /// directory: another one may have come meanwhile, or the key's certificate.
    fn lease_if(
        &mut self,
        is_wanted: bool,
        key: PublicKey,
        verified: &Verified,
        answer: Option<&KafkaTopics>,
        clock: Clock,
    ) -> Result<Leased, Refusal> {
        self.check_revoked(&key, verified, clock)?;
        if self.keys.contains_key(&key) || !is_wanted {
            let admission = self.admit(key, clock)?;
            return Ok(Leased { admission, change: LeaseChange::Unchanged, ended: None });
        }
        self.leases.check(&key, verified, clock).map_err(Refusal::Lease)?;
        self.give(key, verified, answer, clock)
    }

    /// Takes a token that was verified for this key, and that its owner sent to enrol the key. It
    /// has to be the key's own also if it moves no end. The same token moves it once half of the
    /// lease is over: that may be shorter than the token.
    ///
    /// # Errors
    /// The token gives no lease.
    pub fn enrol(
        &mut self,
        key: PublicKey,
        verified: &Verified,
        clock: Clock,
    ) -> Result<Leased, Refusal> {
        self.check_revoked(&key, verified, clock)?;
        if self.keys.contains_key(&key) {
            return Err(Refusal::Lease(LeaseError::KeyTaken));
        }
        self.leases.check(&key, verified, clock).map_err(Refusal::Lease)?;
        match self.leased(&key, clock) {
            Some(admission) if !self.leases.would_prolong(&key, verified, clock) => {
                Ok(Leased { admission, change: LeaseChange::Unchanged, ended: None })
            }
            _ => self.give(key, verified, None, clock),
        }
    }

    /// Begins or renews a lease; if its issuer or Kafka decides, only with the answer.
    fn give(
        &mut self,
        key: PublicKey,
        verified: &Verified,
        answer: Option<&KafkaTopics>,
        clock: Clock,
    ) -> Result<Leased, Refusal> {
        if verified.is_to_confirm && !zafka_planted::is("a-lease-begins-unconfirmed") {
            return Err(Refusal::AsksIssuer);
        }
        let live = self.leased(&key, clock);
        let change = if live.is_some() { LeaseChange::Renewed } else { LeaseChange::Begun };
        // The rest of a token is not kept.
        let claims = self.rules.decisive(&verified.claims);
        let verified = &Verified { claims, ..verified.clone() };
        let mut grant = self.rules.grant(Some(&verified.claims));
        if grant.asks_kafka() {
            let answer = answer.ok_or(Refusal::AsksKafka)?;
            grant = grant.with_kafka(answer).shared(&mut self.answers);
        }
        let claims = Some(Arc::new(verified.claims.clone()));
        let new = Arc::new(Admission::new(Some(key), claims, grant));
        // A peer whose rights stay the same stays connected.
        let is_same = |live: &Arc<Admission>| {
            live.grant == new.grant || zafka_planted::is("a-renewal-keeps-old-rights")
        };
        let admission = live.filter(is_same).unwrap_or(new);
        let ended = self.leases.set(key, verified, &admission, clock);
        if let Some(ended) = &ended {
            ended.end();
        }
        Ok(Leased { admission, change, ended })
    }

    /// Takes Kafka's new answer about the owner of a lease. If that gives other rights the
    /// admission that it had ends and is returned: the peer comes back with these.
    pub fn set_answer(
        &mut self,
        key: &PublicKey,
        answer: &KafkaTopics,
        clock: Clock,
    ) -> Option<Arc<Admission>> {
        let live = self.leased(key, clock)?;
        let grant: Grant = self.rules.grant(live.claims.as_deref()).with_kafka(answer);
        if grant == live.grant {
            return None;
        }
        let grant = grant.shared(&mut self.answers);
        let new = Arc::new(Admission::new(Some(*key), live.claims.clone(), grant));
        let ended = self.leases.replace(key, new)?;
        ended.end();
        Some(ended)
    }

    /// Ends a key's lease whose token, by its issuer, is not active any more; returns what its
    /// owner had, unless another token has given the lease since. That token lets in nobody from
    /// now on.
    pub fn end_inactive(&mut self, key: &PublicKey, token: &TokenId) -> Option<Arc<Admission>> {
        let ended = self.leases.end_inactive(key, token)?;
        ended.end();
        Some(ended)
    }

    /// Takes note that a token, by its issuer, is not active, and so gives this key no lease.
    pub fn refuse_inactive(&mut self, key: PublicKey, verified: &Verified, clock: Clock) {
        self.leases.refuse_inactive(key, verified, clock);
    }

    /// Ends the lease of a key before its time, and returns what its owner had.
    pub fn end_lease(&mut self, key: &PublicKey) -> Option<Arc<Admission>> {
        let ended = self.leases.remove(key)?;
        ended.end();
        Some(ended)
    }

    /// Ends the leases that are over, and returns them.
    pub fn end_leases(&mut self, clock: Clock) -> Vec<Arc<Admission>> {
        self.revocations.forget(clock);
        let over = self.leases.take_over(clock);
        over.iter().for_each(|admission| admission.end());
        over
    }

    /// The admission of a key's lease, if it lives.
    pub fn leased(&self, key: &PublicKey, clock: Clock) -> Option<Arc<Admission>> {
        self.leases.live(key, clock).cloned()
    }

    /// Returns the number of leases.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// Returns the number of revocations.
    pub fn revocations(&self) -> usize {
        self.revocations.len()
    }

    /// All leases that live, in no order.
    pub fn views(&self, clock: Clock) -> Vec<LeaseView> {
        self.leases.views(clock).collect()
    }

    /// Decides on a key whose owner has proven it: by its lease, by its certificate, or by a rule
    /// for any key.
    ///
    /// # Errors
    /// The key is not let in.
    pub fn admit(&mut self, key: PublicKey, clock: Clock) -> Result<Arc<Admission>, Refusal> {
        if let Some(admission) = self.leased(&key, clock) {
            return Ok(admission);
        }
        if let Some(admission) = self.admitted.get(&key).and_then(Weak::upgrade) {
            return Ok(admission);
        }
        let claims = self.keys.get(&key).cloned();
        let claimed = claims.as_deref();
        let bearer = Bearer { key: &key, claims: claimed, issued: None, signed_by: None };
        if self.revocations.mean(bearer, None, clock) {
            return Err(Refusal::Revoked);
        }
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
            let stays = admission.claims == known.get(key).cloned()
                || zafka_planted::is("a-removed-key-stays");
            if !stays {
                admission.end();
                ended.push(admission);
            }
            stays
        });
        // What a certificate says of a key counts from now on, not what a token did.
        let leased: Vec<_> = self.keys.keys().filter_map(|key| self.leases.remove(key)).collect();
        leased.iter().for_each(|admission| admission.end());
        ended.extend(leased);
        ended
    }

    /// Returns the number of known keys.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    fn admission(&self, key: Option<PublicKey>, claims: Option<Arc<Claims>>) -> Arc<Admission> {
        let grant = self.rules.grant(claims.as_deref());
        Arc::new(Admission::new(key, claims, grant))
    }
}

#[cfg(test)]
mod tests;
