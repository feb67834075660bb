//! The tokens of an issuer that has to say whether they are active.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use zafka_identity::{
    Answered, Failed, Failure, Question, Questions, Refusal, TokenId, Verified, Wanted,
};
use zafka_oidc::Secret;
use zafka_zmtp::curve::PublicKey;

use crate::introspection::{IntrospectionSource, Introspector};

/// Questions in a row that have failed about a peer, from which on it is kept out by that.
const KEPT_OUT: u32 = 2;

/// A token that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedToken {
    /// The token itself.
    pub secret: Secret,
    /// Its digest.
    pub id: TokenId,
}

/// The tokens of an issuer.
#[derive(Debug)]
pub struct Introspected {
    issuer: String,
    introspector: Arc<Introspector>,
    questions: Mutex<Questions<AskedToken>>,
    /// There may be something to ask.
    changed: Notify,
}

impl Introspected {
    /// Nothing is asked yet.
    pub fn new(source: &IntrospectionSource) -> Self {
        Self {
            issuer: source.keys.issuer.clone(),
            introspector: Arc::new(Introspector::new(source)),
            questions: Mutex::new(Questions::lenient(source.every)),
            changed: Notify::new(),
        }
    }

    /// The issuer's name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Has the issuer asked about a token. Returns the reason why it gives no lease yet.
    pub fn want(
        &self,
        key: PublicKey,
        verified: &Verified,
        token: impl FnOnce() -> Secret,
    ) -> Refusal {
        let keep = || AskedToken { secret: token(), id: verified.id };
        let wanted = self.questions.lock().want(key, verified, keep, Instant::now());
        self.changed.notify_one();
        match wanted {
            Wanted::Asked => Refusal::AsksIssuer,
            Wanted::Failed | Wanted::Full => Refusal::NotConfirmed,
        }
    }

    /// A lease has begun, or goes on, by this token.
    pub fn handle_begun(&self, key: PublicKey, id: TokenId, secret: Secret) {
        self.questions.lock().handle_begun(key, AskedToken { secret, id }, Instant::now());
        self.changed.notify_one();
    }

    /// Forgets the tokens of leases that do not live. The directory may be locked meanwhile, as in
    /// [`Self::want`]: it is never locked behind the questions.
    pub fn retain(&self, lives: impl Fn(&PublicKey) -> bool) {
        self.questions.lock().retain_leased(lives);
    }

    /// Returns the number of peers that are kept out because the issuer does not answer.
    pub fn kept_out(&self) -> usize {
        self.questions.lock().unanswered(KEPT_OUT)
    }

    /// Begins to ask anew: what was under way has nobody any more who would report its outcome.
    pub fn begin_again(&self) {
        self.questions.lock().forget_questions(Instant::now());
    }

    /// The way to ask.
    pub fn introspector(&self) -> Arc<Introspector> {
        Arc::clone(&self.introspector)
    }

    /// The next question.
    pub fn next(&self) -> Option<Question<AskedToken>> {
        self.questions.lock().poll_question(Instant::now())
    }

    /// Waits until there may be another question.
    pub async fn next_may_be(&self) {
        let due = self.questions.lock().poll_timeout();
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }

    /// The token is active.
    pub fn handle_answer(&self, question: &Question<AskedToken>) -> Option<Answered<AskedToken>> {
        self.questions.lock().handle_answer(question, Instant::now())
    }

    /// The token is not active. Returns it if it still waits for its first answer.
    pub fn handle_no(&self, question: &Question<AskedToken>) -> Option<Box<Verified>> {
        self.questions.lock().handle_no(question, Instant::now())
    }

    /// There was no answer.
    pub fn handle_failure(&self, question: &Question<AskedToken>) -> Option<Failed> {
        self.questions.lock().handle_failure(question, Failure::Unanswered, Instant::now())
    }
}
