//! The peers that Kafka is asked about, with their tokens.

use std::sync::Arc;

use parking_lot::Mutex;
use zafka_identity::{Question, Questions, Refusal, Verified, Wanted};
use zafka_kafka::AskedTopics;
use zafka_kafka::config::Secret;
use zafka_zmtp::curve::PublicKey;

use super::asked::Asked;
use crate::config::KafkaExchange;

/// The peers that Kafka is asked about.
#[derive(Debug)]
pub struct KafkaRights {
    exchange: KafkaExchange,
    topics: Mutex<Arc<AskedTopics>>,
    /// The tokens of these peers.
    pub asked: Asked<Secret>,
}

impl KafkaRights {
    /// Makes the rights, without questions.
    pub fn new(exchange: &KafkaExchange) -> Self {
        let asked = Asked::new(Questions::new(exchange.acl_refresh));
        Self { exchange: exchange.clone(), topics: Mutex::default(), asked }
    }

    /// The way to ask.
    pub fn exchange(&self) -> &KafkaExchange {
        &self.exchange
    }

    /// Has Kafka asked about the owner of a token. Returns the reason why it gets no lease yet.
    pub fn want(
        &self,
        key: PublicKey,
        verified: &Verified,
        token: impl FnOnce() -> Secret,
    ) -> Refusal {
        match self.asked.want(key, verified, token) {
            Wanted::Asked => Refusal::AsksKafka,
            Wanted::Failed | Wanted::Full => Refusal::NotAnswered,
        }
    }

    /// Asks about these topics from now on, and about each lease at once if they are others.
    pub fn set_topics(&self, topics: AskedTopics) {
        let mut asked = self.topics.lock();
        if **asked != topics {
            *asked = Arc::new(topics);
            self.asked.ask_again();
        }
    }

    /// The next question, with the topics that it is about.
    pub fn next(&self) -> Option<(Question<Secret>, Arc<AskedTopics>)> {
        let topics = self.topics.lock();
        let question = self.asked.poll()?;
        Some((question, Arc::clone(&topics)))
    }
}
