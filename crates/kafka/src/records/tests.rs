//! The record batch reader against batches of another encoder, hand-made ones, and broken ones.

mod aborted;
mod broken;
mod build;
mod builder;
mod codecs;
mod java;
mod legacy;
mod plain;
mod properties;
