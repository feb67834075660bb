//! Asks an issuer whether tokens are active.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};
use tracing::{debug, info, warn};
use zafka_identity::{Answered, Failed, Failure, Question};

use super::gate::Identities;
use super::introspected::{AskedToken, Introspected};

/// Failures in a row after which it is reported once more.
const TELL_AGAIN: u32 = 60;

/// Asks the issuer of this index, for as long as the task lives.
pub async fn keep_asking(index: usize, identities: Arc<Identities>) {
    let Some(introspected) = identities.introspected(index) else { return };
    introspected.asked.begin_again();
    let mut asked = JoinSet::new();
    let mut questions: HashMap<Id, Question<AskedToken>> = HashMap::new();
    loop {
        while let Some(question) = introspected.asked.poll() {
            let token = question.token.secret.clone();
            let task = asked.spawn(introspected.introspector().ask(token));
            questions.insert(task.id(), question);
        }
        tokio::select! {
            Some(joined) = asked.join_next_with_id() => {
                let (id, answer) = match joined {
                    Ok((id, answer)) => (id, answer.map_err(|error| error.to_string())),
                    // A panic is logged where it happens.
                    Err(error) => (error.id(), Err(error.to_string())),
                };
                if let Some(question) = questions.remove(&id) {
                    settle(&identities, index, introspected, &question, answer);
                }
            }
            () = introspected.asked.next_may_be() => {}
        }
    }
}

fn settle(
    identities: &Identities,
    index: usize,
    introspected: &Introspected,
    question: &Question<AskedToken>,
    answer: Result<bool, String>,
) {
    let key = question.key;
    match answer {
        Ok(true) => {
            tell_answered(identities, index, introspected, true);
            let answered = introspected.asked.handle_answer(question);
            if let Some(Answered::Begins(verified, token)) = answered {
                identities.begin_lease(key, &verified, None, &token.secret);
            }
        }
        Ok(false) => {
            tell_answered(identities, index, introspected, false);
            let waited = introspected.asked.handle_no(question);
            identities.handle_inactive(key, &question.token.id, waited.as_deref());
        }
        Err(reason) => {
            tell_failed(identities, index, introspected, &reason);
            match introspected.asked.handle_failure(question, Failure::Unanswered) {
                Some(Failed::Waits) => identities.audit().not_answered(&key, &reason, false),
                Some(Failed::Holds | Failed::Ends) => {
                    identities.audit().not_answered(&key, &reason, true);
                }
                None => debug!(%key, reason, "a question failed that is of no use any more"),
            }
        }
    }
}

fn tell_answered(identities: &Identities, index: usize, asked: &Introspected, is_active: bool) {
    if identities.counts.introspected(index, is_active) {
        info!(issuer = asked.issuer(), "an issuer answers again whether tokens are active");
    }
}

fn tell_failed(identities: &Identities, index: usize, asked: &Introspected, reason: &str) {
    let failures = identities.counts.not_introspected(index, reason);
    if failures == 1 || failures.is_multiple_of(TELL_AGAIN) {
        warn!(
            issuer = asked.issuer(),
            reason,
            failures,
            "an issuer could not be asked whether a token is active: leases go on to their end, \
             and nobody new is let in by its tokens"
        );
    }
}
