//! A librdkafka client and what it calls back: rebalances, errors, statistics, log lines.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use tracing::{debug, error, info};

use crate::error_text::normalize;
use crate::health::SourceHealth;
use crate::log_limiter::LogLimiter;
use crate::report::Reporter;
use crate::topic_partition::TopicPartition;

/// A client; a member of a group if its settings name one.
pub(crate) type Client = BaseConsumer<SourceContext>;

/// A request of the group, in the group's order.
#[derive(Debug)]
pub(crate) enum Rebalance {
    /// Newly assigned partitions, to be answered with `incremental_assign`.
    Assign(Vec<TopicPartition>),
    /// Revoked partitions, to be answered with `incremental_unassign`.
    Revoke(Vec<TopicPartition>),
    /// Partitions as in `Revoke`, but the group has already taken them away.
    Lost(Vec<TopicPartition>),
}

/// The callbacks of librdkafka. Everything but its closing is left to the membership thread.
pub(crate) struct SourceContext {
    health: Arc<SourceHealth>,
    reporter: Reporter,
    rebalances: Mutex<VecDeque<Rebalance>>,
    refusal: Mutex<Option<String>>,
    closing: AtomicBool,
    /// Ends the thread that supplies tokens, with the client.
    tokens_wanted: Option<Sender<Infallible>>,
}

impl SourceContext {
    pub(crate) fn new(
        route: &str,
        health: &Arc<SourceHealth>,
        log_limiter: &Arc<LogLimiter>,
    ) -> Self {
        Self {
            health: Arc::clone(health),
            reporter: Reporter::new(route, health, log_limiter),
            rebalances: Mutex::default(),
            refusal: Mutex::default(),
            closing: AtomicBool::new(false),
            tokens_wanted: None,
        }
    }

    /// Lets partitions go as soon as they are asked back, from now on.
    pub(crate) fn set_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Ends the thread that supplies tokens with the client.
    pub(crate) fn set_tokens_wanted(&mut self, wanted: Sender<Infallible>) {
        self.tokens_wanted = Some(wanted);
    }

    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().pop_front()
    }

    /// Returns the broker's answer if it would answer the same again, so that another try is
    /// useless.
    pub(crate) fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().take()
    }

    /// Reports what will be answered again, however often it is asked.
    pub(crate) fn refused(&self, text: &str) {
        *self.refusal.lock() = Some(text.to_owned());
        self.report(text);
    }

    /// Counts and shows an error; logs it unless it has just been logged.
    pub(crate) fn report(&self, text: &str) {
        self.reporter.report(text);
    }

    /// Reports partitions that could not be served, in one line for each reason.
    pub(crate) fn report_partitions<'a>(
        &self,
        what: &str,
        failed: impl IntoIterator<Item = (&'a TopicPartition, impl Display)>,
    ) {
        self.reporter.report_partitions(what, failed);
    }
}

/// A request that librdkafka refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("{}", plain(.0))]
    Refused(#[from] KafkaError),
    #[error("{0}")]
    Code(#[from] RDKafkaErrorCode),
    /// librdkafka has no handle for a topic.
    #[error("topic \"{0}\" cannot be opened")]
    Topic(Arc<str>),
    /// A thread cannot be started.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// An error without the wrapper's words.
pub(crate) fn plain(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => format!("{key}: {reason}"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => {
            other.rdkafka_error_code().map_or_else(|| other.to_string(), |code| code.to_string())
        }
    }
}

/// Returns true if the answer stays the same until something is changed.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::Authentication
            | C::SSL
            | C::SaslAuthenticationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
    )
}

/// Passes a line of librdkafka's on. What matters comes as an error event too, so that a line is
/// seldom news.
pub(crate) fn log(route: &str, level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // These are error events too.
        _ if matches!(facility, "FAIL" | "ERROR" | "FATAL") => {
            debug!(target: "librdkafka", route = route, "{facility}: {message}");
        }
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(target: "librdkafka", route = route, "{facility}: {message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            info!(target: "librdkafka", route = route, "{facility}: {message}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            debug!(target: "librdkafka", route = route, "{facility}: {message}");
        }
    }
}

/// Notes what an error event says of the connections. Returns its code and what is to be reported:
/// nothing if no broker is left, for the errors of each have been reported.
pub(crate) fn note_error(
    health: &SourceHealth,
    error: &KafkaError,
    reason: &str,
) -> Option<(Option<RDKafkaErrorCode>, String)> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AllBrokersDown) => {
            health.set_connected(false);
            None
        }
        code => {
            health.connection_failed();
            Some((code, normalize(reason)))
        }
    }
}

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(self.reporter.route(), level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.health.update(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let is_fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if is_fatal || reason.contains(" fatal error: ") {
            // The caller of `poll` looks for it, and knows what it means.
            return;
        }
        match note_error(&self.health, &error, reason) {
            Some((Some(code), reason)) if is_refusal(code) => self.refused(&reason),
            Some((_, reason)) => self.report(&reason),
            None => {}
        }
    }
}

impl ConsumerContext for SourceContext {
    fn rebalance(
        &self,
        client: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = || {
            let elements = list.elements();
            let elements = elements.iter();
            elements
                .map(|element| TopicPartition::new(element.topic(), element.partition()))
                .collect()
        };
        let assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // Nothing is held any more.
            let empty = TopicPartitionList::new();
            let answer = if assign {
                client.incremental_assign(&empty)
            } else {
                client.incremental_unassign(&empty)
            };
            if let Err(error) = answer {
                debug!(route = self.reporter.route(), %error, "rebalance while closing");
            }
            return;
        }
        let rebalance = match code {
            _ if assign => Rebalance::Assign(partitions()),
            _ if client.assignment_lost() => Rebalance::Lost(partitions()),
            _ => Rebalance::Revoke(partitions()),
        };
        self.rebalances.lock().push_back(rebalance);
    }
}
