//! The parts that a simulation drives in place of the route's task. Not for anybody else.

pub use crate::kafka_to_zmq::for_simulation::*;
pub use crate::zmq_to_kafka::sim::*;
