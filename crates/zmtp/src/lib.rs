//! ZMTP 3.1 (ZeroMQ RFC 37) and 3.0 (RFC 23) as a state machine without I/O.
//!
//! A [`Connection`] is one side of one connection. It is told what happened (`handle_input`,
//! `handle_timeout`) and says what to do (`poll_output`, `poll_event`, `poll_timeout`). It knows no
//! sockets, no clocks and no threads. Outgoing messages are not its business: once it is ready, the
//! caller writes frames (see [`frame`]) and, between two messages, what `poll_output` gives.
#![forbid(unsafe_code)]

mod command;
mod connection;
mod decoder;
mod error;
pub mod frame;
mod greeting;
mod handshake;
mod heartbeat;
mod metadata;
mod socket_type;

pub use connection::{Config, Connection, Event, MAX_MESSAGE_FRAMES, MAX_REPLY_BYTES, Role};
pub use error::{Error, FoundVersion};
pub use greeting::Minor;
pub use handshake::{MAX_HANDSHAKE_COMMAND, Mechanism, PeerInfo};
pub use heartbeat::{Heartbeat, Overdue};
pub use socket_type::SocketType;
