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
use tokio::sync::mpsc;

use super::super::Written;
use super::{Delivery, Ticket, write_error};
use crate::client;
use crate::health::SourceHealth;
use crate::native;
use crate::report::Reporter;
use crate::security::{Supplied, TokensWanted};

pub(super) struct Context {
    health: Arc<SourceHealth>,
    reporter: Reporter,
    deliveries: mpsc::UnboundedSender<Delivery>,
    /// Ends the thread that supplies tokens, with the client.
    _tokens_wanted: Option<TokensWanted>,
}

impl Context {
    pub(super) fn new(
        health: Arc<SourceHealth>,
        reporter: Reporter,
        deliveries: mpsc::UnboundedSender<Delivery>,
        tokens_wanted: Option<TokensWanted>,
    ) -> Self {
        Self { health, reporter, deliveries, _tokens_wanted: tokens_wanted }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(self.reporter.route(), level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.health.update(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some((_, reason)) = client::note_error(&self.health, &error, reason) {
            self.reporter.report(&reason);
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Ticket;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Ticket) {
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
        let _ = self.deliveries.send(Delivery { ticket, outcome });
    }
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
