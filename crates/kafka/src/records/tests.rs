//! The record batch reader against batches of another encoder, hand-made ones, and broken ones.

mod build;
mod plain;
