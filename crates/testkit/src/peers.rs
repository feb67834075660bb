//! Subscribers and senders of other implementations: libzmq in this process, the rest as child
//! processes that can be stopped and killed.

mod build;
mod libzmq;
mod peer;

pub use build::{python, python_with_client};
pub use libzmq::LibzmqSub;
pub use peer::{Peer, Sending};

/// An implementation of ZeroMQ in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// pyzmq 27 on libzmq 4.3.5.
    Python,
    /// zeromq.js 6 on libzmq.
    Node,
    /// pebbe/zmq4 on the system's libzmq (libzmq3-dev).
    GoPebbe,
    /// go-zeromq/zmq4: Go alone, ZMTP 3.0.
    GoPure,
    /// JeroMQ 0.6.
    Java,
    /// zmq.rs 0.7.
    Rust,
}
