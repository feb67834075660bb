//! The Kafka side against librdkafka's mock cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod group;
mod records;
mod route;
mod without_group;
