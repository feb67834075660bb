//! Everything that is measured, in the order in which it is.

pub mod curve;
pub mod curve_stalled;
pub mod floods;
pub mod ingest;
pub mod latency;
mod metrics;
pub mod relay;
pub mod scale;
pub mod stalled;
