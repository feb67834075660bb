//! The calls of those who ask Kafka and issuers about tokens, and of those who end leases.

use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info};
use zafka_identity::{Admission, KafkaTopics, LeaseChange, Refusal, TokenId, Verified};
use zafka_kafka::AskedTopics;
use zafka_oidc::Secret;
use zafka_zmtp::curve::PublicKey;

use super::{Identities, clock};
use crate::identity::introspected::{AskedToken, Introspected};
use crate::identity::kafka_rights::KafkaRights;

impl Identities {
    /// The questions to Kafka, if rules say that it decides.
    pub fn kafka(&self) -> Option<&KafkaRights> {
        self.kafka.as_ref()
    }

    /// The questions to the issuer of this index, if it has to say that tokens are active.
    pub fn introspected(&self, index: usize) -> Option<&Introspected> {
        self.introspected.get(index).and_then(Option::as_ref)
    }

    /// Asks Kafka about these topics from now on.
    pub fn set_topics(&self, topics: AskedTopics) {
        if let Some(kafka) = &self.kafka {
            kafka.set_topics(topics);
        }
    }

    /// Has its issuer, or Kafka, asked about a token that gives no lease before the answer. Returns
    /// the reason why it gives none meanwhile.
    pub(super) fn ask_about(
        &self,
        refusal: Refusal,
        key: PublicKey,
        verified: &Verified,
        token: impl FnOnce() -> Secret,
    ) -> Refusal {
        match (refusal, &self.kafka, self.introspected_of(verified)) {
            (Refusal::AsksKafka, Some(kafka), _) => kafka.want(key, verified, token),
            (Refusal::AsksIssuer, _, Some(issuer)) => issuer.want(key, verified, token),
            _ => refusal,
        }
    }

    /// Takes the answer on a token that waits: of its issuer, then of Kafka, if that is asked. Its
    /// lease begins, or is renewed. Returns false if it gets none, or none yet.
    pub fn begin_lease(
        &self,
        key: PublicKey,
        verified: &Verified,
        answer: Option<&KafkaTopics>,
        token: &Secret,
    ) -> bool {
        let leased = {
            let mut directory = self.directory.lock();
            let leased = directory.lease_with(key, verified, answer, clock());
            self.keep_token(key, &leased, || token.clone());
            leased
        };
        match leased {
            Ok(leased) => {
                self.tell_leased(&leased);
                // The lease is by another token, which is asked about as before.
                if leased.change == LeaseChange::Unchanged {
                    return false;
                }
            }
            Err(Refusal::AsksKafka) => {
                let refusal = self.ask_about(Refusal::AsksKafka, key, verified, || token.clone());
                debug!(%key, %refusal, "its issuer has answered");
                return false;
            }
            Err(refusal) => {
                info!(%key, %refusal, "its token was asked about, and the peer gets no lease");
                return false;
            }
        }
        if let Some(introspected) = self.introspected_of(verified) {
            let token = AskedToken { secret: token.clone(), id: verified.id };
            introspected.asked.handle_begun(key, token);
        }
        true
    }

    /// Takes note that the issuer of a token says that it is not active: it gives this key no
    /// lease, and ends the one that it gave. `waited`: the token, if it has waited for its first
    /// answer.
    pub fn handle_inactive(&self, key: PublicKey, token: &TokenId, waited: Option<&Verified>) {
        let ended = {
            let mut directory = self.directory.lock();
            if let Some(verified) = waited {
                directory.refuse_inactive(key, verified, clock());
            }
            // A token that waits may have given a lease before.
            directory.end_inactive(&key, token)
        };
        self.tell_ended(ended.as_slice(), "its issuer says that its token is not active any more");
    }

    /// Takes Kafka's next answer on the owner of a lease.
    pub fn set_answer(&self, key: &PublicKey, answer: &KafkaTopics) {
        let ended = self.directory.lock().set_answer(key, answer, clock());
        self.tell_ended(ended.as_slice(), "Kafka lets it read or write other topics now");
    }

    /// Ends a lease about which Kafka does not answer.
    pub fn end_lease(&self, key: &PublicKey, reason: &str) {
        let ended = self.directory.lock().end_lease(key);
        self.tell_ended(ended.as_slice(), reason);
    }

    /// Ends the leases about which Kafka has not been asked for too long, whatever the reason.
    pub fn end_unanswered(&self, now: Instant) {
        let Some(kafka) = &self.kafka else { return };
        for key in kafka.asked.take_unanswered(now) {
            self.end_lease(&key, "nobody has asked Kafka what it may do");
        }
    }

    /// Forgets the tokens of these admissions whose leases are over, or about which Kafka does not
    /// decide any more.
    pub(super) fn forget_ended(&self, ended: &[Arc<Admission>]) {
        let clock = clock();
        for key in ended.iter().filter_map(|admission| admission.key) {
            // Locked for each by itself: many may end at once.
            let directory = self.directory.lock();
            // Other rights end an admission as well.
            let live = directory.leased(&key, clock);
            if let Some(kafka) = &self.kafka
                && live.as_ref().is_none_or(|live| !live.grant.asks_kafka())
            {
                kafka.asked.handle_ended(&key);
            }
            if live.is_none() {
                self.tokens.iter().for_each(|tokens| tokens.handle_ended(&key));
                self.introspected.iter().flatten().for_each(|one| one.asked.handle_ended(&key));
            }
        }
    }

    /// The same, of all leases: one may have ended before its token was kept.
    pub fn forget_tokens(&self) {
        let (directory, clock) = (self.directory.lock(), clock());
        let is_live = |key: &PublicKey| directory.leased(key, clock).is_some();
        if let Some(kafka) = &self.kafka {
            let asks = |admission: Arc<Admission>| admission.grant.asks_kafka();
            kafka.asked.retain(|key| directory.leased(key, clock).is_some_and(asks));
        }
        if let Some(tokens) = &self.tokens {
            tokens.retain(is_live);
        }
        self.introspected.iter().flatten().for_each(|one| one.asked.retain(is_live));
    }

    fn introspected_of(&self, verified: &Verified) -> Option<&Introspected> {
        let issuer = verified.claims.issuer();
        self.introspected.iter().flatten().find(|one| one.issuer() == issuer)
    }
}
