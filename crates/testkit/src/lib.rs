//! The parts of zafka's integration tests: a real Kafka, real ZeroMQ peers, an identity provider,
//! tools that break things, and the checker that says whether a record was lost.
//!
//! Everything that is not Rust comes from package registries, by the project files in this crate,
//! into `target/testkit`. Helpers panic if a test should fail. Processes die with the test that
//! started them, also when it is killed; see [`child`].
//!
//! ```
//! use zafka_testkit::{Acknowledged, Place};
//!
//! let mut sent = Acknowledged::default();
//! let message = sent.message(None, b"order 1");
//! sent.sent("sender", message);
//! sent.written("sender", message, Place { partition: 0, offset: Some(3) });
//! // The log has nothing at the place that the answer named: one violation.
//! assert_eq!(sent.check(&[]).len(), 1);
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that cannot do its work fails the test that asked"
)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

pub mod admin;
pub mod checker;
pub mod child;
pub mod http;
pub mod issuer;
mod jars;
pub mod kafka;
pub mod keycloak;
pub mod oidc;
pub mod paths;
pub mod peers;
pub mod ports;
pub mod process;
pub mod proxy;
mod sequence;
pub mod wait;

pub use admin::{Admin, Record};
pub use checker::{Acknowledged, Checker, Place, Received, Session, decode_json};
pub use issuer::Issuer;
pub use kafka::{KafkaCluster, KafkaNode, KafkaOptions, SecuredKafka};
pub use keycloak::Keycloak;
pub use peers::{Kind, LibzmqSub, Peer, Sending};
pub use process::Zafka;
pub use proxy::Proxy;
pub use sequence::{Produced, Sequence, sequence_value};
pub use wait::{unique, wait_until};
