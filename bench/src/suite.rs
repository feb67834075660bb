//! Everything that is measured, in the order in which it is.

pub mod curve;
pub mod floods;
pub mod ingest;
pub mod latency;
pub mod relay;
pub mod scale;
pub mod stalled;
