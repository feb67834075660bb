//! The envelope from outside: vectors, properties, malformed input, templates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod carried;
mod identity;
mod inbound;
mod messages;
mod mutations;
mod templates;
mod vectors;
mod wire;
