//! ZeroMQ sockets on tokio: listeners, connectors, peers, and the ring that all peers of a route
//! read.
//!
//! Knows ZMTP and bytes. Does not know Kafka, records or envelopes.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

mod buffers;
mod chunk;
mod client_link;
pub mod config;
mod connect;
mod endpoint;
mod files;
mod inbound;
mod keep_running;
mod listen;
mod memory;
mod outbound;
mod peer;
mod pub_socket;
mod ration;
mod reached;
mod refusals;
mod resolve;
mod ring;
mod session;
mod shared;
mod silence;
mod stream;
mod sub_socket;
mod subscriptions;
mod tcp_info;
mod trie;
mod wait;
mod writer;

pub use buffers::{Buffer, Buffers};
pub use chunk::{Chunk, Origin};
pub use endpoint::{Endpoint, EndpointError, Port};
pub use inbound::{
    Content, Inbound, InboundConfig, InboundKind, InboundSnapshot, InboundSocket, Permit, Sender,
    SenderSnapshot,
};
pub use outbound::{OutboundEvent, OutboundKind, OutboundSocket, Outlet, Slot, put_message};
pub use pub_socket::{BindError, PeerSnapshot, PubSocket, Publisher, SocketSnapshot};
pub use ring::{Demand, RingCounters};
pub use sub_socket::{SubEvent, SubSocket};
pub use wait::{Wait, WaitKind};
