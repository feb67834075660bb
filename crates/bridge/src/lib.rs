//! Routes: what flows from where to where. Positions, policies, and the thin tasks that drive them.
#![forbid(unsafe_code)]

pub mod config;
mod partition;
mod relay;
mod route;
mod shared;
pub mod status;

pub use relay::{Relay, StartError, StatusHandle};
