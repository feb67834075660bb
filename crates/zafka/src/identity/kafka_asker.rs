//! Asks Kafka what peers may do: each one's token is exchanged for one with Kafka's audience, and
//! Kafka is asked over a connection that shows that. The exchanged token is forgotten with the
//! answer.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use tokio::task::{Id, JoinSet};
use tracing::debug;
use zafka_identity::{Answered, Failed, Failure, KafkaTopics, Question};
use zafka_kafka::config::Secret;
use zafka_kafka::{AskedTopics, AuthorizationError, AuthorizedTopics, Cluster};

use super::gate::Identities;
use super::kafka_rights::KafkaRights;
use crate::blocking::{Calls, PATIENCE};
use crate::config::KafkaExchange;

/// Reads of the keys and certificates of an exchange.
static READING: LazyLock<Calls> = LazyLock::new(|| Calls::new(16));

/// Asks for as long as the task lives.
pub async fn keep_asking(cluster: Cluster, identities: Arc<Identities>) {
    let Some(rights) = identities.kafka() else { return };
    rights.asked.begin_again();
    let mut asked = JoinSet::new();
    let mut questions: HashMap<Id, Question<Secret>> = HashMap::new();
    loop {
        while let Some((question, topics)) = rights.next() {
            let (cluster, exchange) = (cluster.clone(), rights.exchange().clone());
            let token = question.token.clone();
            let task = asked.spawn(async move { ask(&cluster, &exchange, token, &topics).await });
            questions.insert(task.id(), question);
            identities.counts.kafka.asked();
        }
        tokio::select! {
            Some(joined) = asked.join_next_with_id() => {
                let (id, answer) = match joined {
                    Ok(done) => done,
                    // The panic hook has logged it.
                    Err(error) => {
                        (error.id(), Err(AuthorizationError::Unanswered(error.to_string())))
                    }
                };
                if let Some(question) = questions.remove(&id) {
                    settle(&identities, rights, &question, answer);
                }
            }
            () = rights.asked.next_may_be() => {}
        }
    }
}

/// Asks a cluster which of these topics the owner of a token may read and write.
///
/// # Errors
/// The reason why that is not known.
pub async fn ask(
    cluster: &Cluster,
    exchange: &KafkaExchange,
    token: Secret,
    topics: &AskedTopics,
) -> Result<KafkaTopics, AuthorizationError> {
    let (cluster, tokens) = (cluster.clone(), exchange.of(token));
    let unanswered = |why: &dyn Display| AuthorizationError::Unanswered(why.to_string());
    let principal = READING.run(PATIENCE, move || cluster.principal(&tokens)).await;
    let principal = principal.map_err(|error| unanswered(&error))?;
    let principal = principal.map_err(|error| unanswered(&error))?;
    let AuthorizedTopics { read, write } = principal.authorized(topics).await?;
    Ok(KafkaTopics { read, write })
}

fn settle(
    identities: &Identities,
    rights: &KafkaRights,
    question: &Question<Secret>,
    answer: Result<KafkaTopics, AuthorizationError>,
) {
    let key = question.key;
    identities.counts.kafka.handle(answer.as_ref().err());
    let error = match answer {
        Ok(topics) => {
            match rights.asked.handle_answer(question) {
                Some(Answered::Begins(verified, token)) => {
                    let has_lease = identities.begin_lease(key, &verified, Some(&topics), &token);
                    if has_lease {
                        rights.asked.handle_begun(key, token);
                    }
                }
                Some(Answered::Again) => identities.set_answer(&key, &topics),
                None => {}
            }
            return;
        }
        Err(error) => error,
    };
    let failure = if error.is_refusal() { Failure::Refused } else { Failure::Unanswered };
    let reason = error.to_string();
    match rights.asked.handle_failure(question, failure) {
        Some(Failed::Waits) => identities.audit().not_answered(&key, &reason, false),
        Some(Failed::Holds) => identities.audit().not_answered(&key, &reason, true),
        Some(Failed::Ends) => {
            let reason = format!("Kafka does not answer what it may do: {reason}");
            identities.end_lease(&key, &reason);
        }
        None => debug!(%key, reason, "a question to Kafka failed that is of no use any more"),
    }
}
