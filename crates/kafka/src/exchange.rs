//! Messages between a route and its source: events of partitions, and the requests of the route.

mod event;
mod request;

pub use event::{RevokeDone, SourceEvent};
pub(crate) use request::RouteRequest;
