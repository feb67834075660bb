//! ZeroMQ sockets on tokio: PUB, which writes one ring of messages to all its peers, and PULL, SUB
//! and ROUTER, which take messages in.
//!
//! Knows ZMTP and bytes. Does not know Kafka, records or envelopes.
//!
//! ```
//! use std::sync::Arc;
//!
//! use zafka_sockets::config::PubConfig;
//! use zafka_sockets::{Chunk, Origin, PubSocket, SubEvent, SubSocket};
//! use zafka_zmtp::frame::{Position, put_header};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = PubConfig { bind: vec!["tcp://127.0.0.1:*".parse()?], ..PubConfig::default() };
//! let (socket, mut publisher) = PubSocket::start("example", config).await?;
//! let mut sub = SubSocket::new(socket.endpoints()[0].clone(), vec![b"to".to_vec()]);
//! while socket.counts().peers_subscribed == 0 {
//!     tokio::task::yield_now().await;
//! }
//!
//! let mut message = Vec::new();
//! put_header(&mut message, Position::Last, 5);
//! message.extend_from_slice(b"topic");
//! let (origin, ends) = (Origin::new(0), vec![message.len()]);
//! publisher.publish(Chunk::new(message, ends, true, 1, Arc::clone(&origin), 1));
//!
//! assert_eq!(sub.next().await, SubEvent::Connected);
//! assert_eq!(sub.next().await, SubEvent::Message(vec!["topic".into()]));
//! assert_eq!(origin.delivered(), 1);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

mod buffers;
mod chunk;
mod client_link;
mod closed;
pub mod config;
mod connect;
mod demand;
mod endpoint;
mod files;
pub mod gate;
mod inbound;
mod intake;
mod keep_running;
mod label;
mod link;
mod listen;
mod memory;
mod origin;
mod outbound;
mod outbox;
mod positions;
mod publish;
mod ration;
mod reached;
mod receive;
mod resolve;
mod ring;
mod router;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
mod stream;
mod sub_socket;
mod subscriptions;
mod trie;
mod wait;

pub use buffers::{Buffer, Buffers};
pub use chunk::Chunk;
pub use demand::Demand;
pub use endpoint::{Endpoint, EndpointError, Port};
pub use inbound::{InboundSnapshot, InboundSocket};
pub use intake::{
    Content, Grant, Inbound, InboundConfig, InboundKind, Permit, Sender, SenderSnapshot,
    message_weight,
};
pub use label::Label;
pub use link::BindError;
pub use listen::IpcListener;
pub use origin::Origin;
pub use outbound::{OutboundEvent, OutboundKind, OutboundSocket, Outlet, Slot, put_message};
pub use outbox::Answers;
pub use positions::Positions;
pub use publish::{PeerSnapshot, PubSocket, Publisher, SocketSnapshot};
pub use ration::Lines;
pub use ring::RingCounters;
pub use sub_socket::{SubEvent, SubSocket};
pub use wait::{Wait, WaitKind, now_ms};
