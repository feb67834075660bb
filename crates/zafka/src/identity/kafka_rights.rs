//! The peers that Kafka is asked about, with their tokens.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep_until;
use zafka_identity::{Answered, Failed, Failure, Question, Questions, Refusal, Verified, Wanted};
use zafka_kafka::AskedTopics;
use zafka_kafka::config::Secret;
use zafka_zmtp::curve::PublicKey;

use crate::config::KafkaExchange;

/// The peers that Kafka is asked about.
#[derive(Debug)]
pub struct KafkaRights {
    exchange: KafkaExchange,
    asks: Mutex<Questions<Secret>>,
    topics: Mutex<Arc<AskedTopics>>,
    /// Signals that there may be something to ask.
    changed: Notify,
}

impl KafkaRights {
    /// Makes the rights, without questions.
    pub fn new(exchange: &KafkaExchange) -> Self {
        let asks = Mutex::new(Questions::new(exchange.acl_refresh));
        let (topics, changed) = (Mutex::default(), Notify::new());
        Self { exchange: exchange.clone(), asks, topics, changed }
    }

    /// Has Kafka asked about the owner of a token. Returns the reason why it gets no lease yet.
    pub fn want(
        &self,
        key: PublicKey,
        verified: &Verified,
        token: impl FnOnce() -> Secret,
    ) -> Refusal {
        let wanted = self.asks.lock().want(key, verified, token, Instant::now());
        self.changed.notify_one();
        match wanted {
            Wanted::Asked => Refusal::AsksKafka,
            Wanted::Failed | Wanted::Full => Refusal::NotAnswered,
        }
    }

    /// Asks about these topics from now on, and about each lease at once if they are others.
    pub fn set_topics(&self, topics: AskedTopics) {
        let mut asked = self.topics.lock();
        if **asked != topics {
            *asked = Arc::new(topics);
            self.asks.lock().ask_again(Instant::now());
            self.changed.notify_one();
        }
    }

    /// Forgets the tokens of leases that do not live. The directory may be locked meanwhile, as in
    /// [`Self::want`]: it is never locked behind the questions.
    pub fn retain(&self, lives: impl Fn(&PublicKey) -> bool) {
        self.asks.lock().retain_leased(lives);
    }

    /// The next question, with the topics that it is about.
    pub fn next(&self) -> Option<(Question<Secret>, Arc<AskedTopics>)> {
        let topics = self.topics.lock();
        let question = self.asks.lock().poll_question(Instant::now())?;
        Some((question, Arc::clone(&topics)))
    }

    /// Waits until there may be another question.
    pub async fn next_may_be(&self) {
        let due = self.asks.lock().poll_timeout();
        tokio::select! {
            () = self.changed.notified() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {}
        }
    }

    /// Returns the peers about which nobody has told anything for so long that their leases are to
    /// end.
    pub fn take_unanswered(&self, now: Instant) -> Vec<PublicKey> {
        self.asks.lock().take_unanswered(now)
    }

    /// Takes note that whoever asks begins again: nobody tells the outcome of the questions before.
    pub fn begin_again(&self) {
        self.asks.lock().forget_questions(Instant::now());
        self.changed.notify_one();
    }

    /// Returns the number of peers that wait for their first answer, and of the leases that are asked
    /// about.
    pub fn asked_about(&self) -> (usize, usize) {
        self.asks.lock().counts()
    }

    /// Kafka has answered.
    pub fn handle_answer(&self, question: &Question<Secret>) -> Option<Answered<Secret>> {
        self.asks.lock().handle_answer(question, Instant::now())
    }

    /// Takes note that there was no answer.
    pub fn handle_failure(&self, question: &Question<Secret>, failure: Failure) -> Option<Failed> {
        self.asks.lock().handle_failure(question, failure, Instant::now())
    }

    /// Takes note that a lease has begun, or was renewed, by this token.
    pub fn handle_begun(&self, key: PublicKey, token: Secret) {
        self.asks.lock().handle_begun(key, token, Instant::now());
    }

    /// The way to ask.
    pub fn exchange(&self) -> &KafkaExchange {
        &self.exchange
    }
}
