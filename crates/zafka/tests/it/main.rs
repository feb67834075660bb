//! The program against real parts: Kafka, libzmq peers, an identity provider.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

/// Makes two tests of a function, `NAME::fast` and `NAME::librdkafka`; the second argument is why
/// they are ignored.
macro_rules! on_both_fetchers {
    ($name:ident, $reason:literal) => {
        mod $name {
            use $crate::common::Fetcher;

            #[test]
            #[ignore = $reason]
            fn fast() {
                super::$name(Fetcher::Fast);
            }

            #[test]
            #[ignore = $reason]
            fn librdkafka() {
                super::$name(Fetcher::Librdkafka);
            }
        }
    };
}

mod admin;
mod brokers;
mod clients;
mod common;
mod delivery;
mod demo;
mod examples;
mod fetching;
mod flow;
mod groups;
mod health;
mod identity;
mod ingest;
mod login;
mod membership;
mod peers;
mod presets;
mod program;
mod records;
mod reload;
mod replicas;
mod resets;
mod security;
mod send;
mod senders;
mod starts;
mod stderr;
mod tap;
mod topics;
mod transactions;

use std::time::Duration;

use zafka_testkit::{Received, decode_json};

/// Longest time for anything, until a test gives up on it.
const DEADLINE: Duration = Duration::from_secs(60);

/// The program.
const ZAFKA: &str = env!("CARGO_BIN_EXE_zafka");

/// Messages in the `json` envelope, decoded by the testkit's own reader.
fn decoded(messages: &[Vec<Vec<u8>>]) -> Vec<Received> {
    messages.iter().map(|frames| decode_json(frames).expect("an envelope of preset json")).collect()
}
