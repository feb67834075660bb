//! The Kafka side against librdkafka's mock cluster, and against the real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

/// Makes two tests of a function, `NAME::fast` and `NAME::librdkafka`; a second argument is why
/// they are ignored.
macro_rules! on_both_fetchers {
    ($name:ident $(, $reason:literal)?) => {
        mod $name {
            use zafka_kafka::config::FetcherKind;

            #[tokio::test(flavor = "multi_thread")]
            $(#[ignore = $reason])?
            async fn fast() {
                super::$name(FetcherKind::Fast).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            $(#[ignore = $reason])?
            async fn librdkafka() {
                super::$name(FetcherKind::Librdkafka).await;
            }
        }
    };
}

/// The same of a function that writes.
macro_rules! on_both_producers {
    ($name:ident $(, $reason:literal)?) => {
        mod $name {
            use zafka_kafka::produce::ProducerKind;

            #[tokio::test(flavor = "multi_thread")]
            $(#[ignore = $reason])?
            async fn fast() {
                super::$name(ProducerKind::Fast).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            $(#[ignore = $reason])?
            async fn librdkafka() {
                super::$name(ProducerKind::Librdkafka).await;
            }
        }
    };
}

mod cluster;
mod fast;
mod group;
mod offline;
mod produce;
mod ranges;
mod real;
mod records;
mod restarts;
mod route;
mod secured;
mod without_group;

/// Shows the log of a test that fails; RUST_LOG chooses what.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test may have done it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
