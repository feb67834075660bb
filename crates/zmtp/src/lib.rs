//! ZMTP 3.1 (ZeroMQ RFC 37) as a state machine without I/O.
#![forbid(unsafe_code)]

pub mod frame;
