//! zafka testkit.
