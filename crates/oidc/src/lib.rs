//! A provider of OpenID Connect over the net: the HTTP that zafka speaks to it, and its token
//! endpoint.
//!
//! Calls block, with a deadline; nothing here knows tokio, Kafka or ZeroMQ. No token, secret or
//! answer that may hold one is ever part of an error or of debug output.

mod config;
mod error;
mod secret;
mod token;

pub use config::OidcClient;
pub use error::TokenError;
pub use secret::Secret;
pub use token::{Token, TokenProvider};
