//! Routes from librdkafka's mock cluster to SUBs, those of libzmq among them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

mod ends;
mod flow;
mod groups;
mod ingest;
mod policies;
mod registry;
mod resets;
mod subscribers;
mod support;
