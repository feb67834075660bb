//! The callbacks of a producer's client: deliveries, errors, statistics, log lines.

use std::sync::Arc;

use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, Timestamp};
use rdkafka::producer::{
    DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::statistics::Topic;
use tokio::sync::mpsc;

use super::super::Written;
use super::{ClientReport, Leaders, RecordNumber, write_error};
use crate::client;
use crate::health::SourceHealth;
use crate::native;
use crate::report::Reporter;
use crate::security::{Supplied, TokensWanted};

pub(super) struct Context {
    health: Arc<SourceHealth>,
    reporter: Reporter,
    tell: mpsc::UnboundedSender<ClientReport>,
    /// Ends the thread that supplies tokens, with the client.
    _tokens_wanted: Option<TokensWanted>,
}

impl Context {
    pub(super) fn new(
        health: Arc<SourceHealth>,
        reporter: Reporter,
        tell: mpsc::UnboundedSender<ClientReport>,
        tokens_wanted: Option<TokensWanted>,
    ) -> Self {
        Self { health, reporter, tell, _tokens_wanted: tokens_wanted }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(self.reporter.route(), level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.health.update(&statistics);
        let topics = statistics.topics.into_iter();
        let topics = topics.map(|(name, topic)| (name, leaders(&topic)));
        // A route that has ended writes nothing.
        let _ = self.tell.send(ClientReport::Topics(topics.collect()));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some((_, reason)) = client::note_error(&self.health, &error, reason) {
            self.reporter.report(&reason);
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = RecordNumber;

    fn delivery(&self, result: &DeliveryResult<'_>, number: RecordNumber) {
        let outcome = match result {
            Ok(message) => Ok(Written {
                partition: message.partition(),
                offset: Some(message.offset()).filter(|offset| *offset >= 0),
                log_append_time: match message.timestamp() {
                    Timestamp::LogAppendTime(ms) => Some(ms),
                    Timestamp::NotAvailable | Timestamp::CreateTime(_) => None,
                },
            }),
            Err((error, message)) => Err(write_error(error, native::may_be_written(message))),
        };
        // A route that has ended sends no answers.
        let _ = self.tell.send(ClientReport::Outcome(number, outcome));
    }
}

/// The partitions of a topic, as far as they are known to be there: whether each has a leader.
fn leaders(topic: &Topic) -> Leaders {
    let of = |index: i32| topic.partitions.get(&index).filter(|partition| !partition.unknown);
    let partitions = (0..).map_while(of);
    partitions.map(|partition| partition.leader >= 0).collect()
}

impl Supplied for ThreadedProducer<Context> {
    type Context = Context;

    fn native(&self) -> &rdkafka::client::Client<Context> {
        self.client()
    }

    fn refused(&self, reason: &str) {
        self.context().reporter.report(reason);
    }
}
