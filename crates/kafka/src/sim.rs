//! The deciders that a simulation drives in place of threads, tasks and clients. Not for anybody
//! else.

mod route;

pub use crate::commits::sim::*;
pub use crate::fetcher::sim::*;
pub use crate::membership::sim::*;
pub use crate::produce::sim::*;
pub use route::*;
