//! The Kafka side of zafka. The only crate that names a Kafka library.

pub mod config;
