//! ZMTP 3.1 (ZeroMQ RFC 37) and 3.0 (RFC 23) as a state machine without I/O.
//!
//! A [`Connection`] is one side of one connection, without sockets, clocks and threads. The caller
//! reports what happened (`handle_input`, `handle_timeout`, with the time) and then asks what to
//! do: `poll_event` for what the peer said, `poll_output` for bytes to write, `poll_timeout` for
//! when to call again. Outgoing messages are the caller's job: once the connection is ready, it
//! writes frames (see [`frame`]) and, between two messages, what `poll_output` returns. With CURVE
//! all of that goes through the [`curve::Sealer`] that the connection gives.
//!
//! ```
//! use std::time::Instant;
//!
//! use bytes::Bytes;
//! use zafka_zmtp::{Config, Connection, Event, Mechanism, Role, SocketType};
//!
//! let side = |socket_type, role| Config {
//!     socket_type,
//!     role,
//!     mechanism: Mechanism::Null,
//!     identity: Bytes::new(),
//!     max_frame: 1 << 20,
//!     max_message: 4 << 20,
//!     heartbeat: None,
//! };
//! let now = Instant::now();
//! let mut publisher = Connection::new(side(SocketType::Pub, Role::Server), now);
//! let mut subscriber = Connection::new(side(SocketType::Sub, Role::Client), now);
//! // Kept until the handshake is done.
//! subscriber.subscribe(b"orders");
//!
//! // What a network would do: greetings, handshake, subscription.
//! loop {
//!     let (to_subscriber, to_publisher) = (publisher.poll_output(), subscriber.poll_output());
//!     if to_subscriber.is_none() && to_publisher.is_none() {
//!         break;
//!     }
//!     subscriber.handle_input(&to_subscriber.unwrap_or_default(), now)?;
//!     publisher.handle_input(&to_publisher.unwrap_or_default(), now)?;
//! }
//!
//! let Some(Event::Ready(peer)) = publisher.poll_event() else { panic!("no handshake") };
//! assert_eq!(peer.socket_type, SocketType::Sub);
//! assert_eq!(publisher.poll_event(), Some(Event::Subscribe(Bytes::from("orders"))));
//! # Ok::<(), zafka_zmtp::Error>(())
//! ```
#![forbid(unsafe_code)]

mod command;
mod connection;
mod decoder;
mod error;
pub mod frame;
mod greeting;
mod heartbeat;
mod mechanism;
mod messages;
mod metadata;
mod minor;
mod socket_type;

pub use connection::{Config, Connection, Event, MAX_MESSAGE_FRAMES, MAX_REPLY_BYTES, Role};
pub use error::{Error, FoundVersion};
pub use heartbeat::{Heartbeat, Overdue};
pub use mechanism::{MAX_HANDSHAKE_COMMAND, Mechanism, PeerInfo, Token, curve};
pub use messages::{Discarded, Frames, Messages};
pub use minor::Minor;
pub use socket_type::SocketType;
