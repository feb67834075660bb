//! Routes: what flows from where to where. Positions, policies, and the thin tasks that drive them.
#![forbid(unsafe_code)]

pub mod status;
