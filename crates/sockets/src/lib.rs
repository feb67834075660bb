//! ZeroMQ sockets on tokio: listeners, connectors, peers, and the ring that all peers of a route read.
//!
//! Knows ZMTP and bytes. Does not know Kafka, records or envelopes.
#![forbid(unsafe_code)]

pub mod config;
mod endpoint;

pub use endpoint::{Endpoint, EndpointError, Port};
