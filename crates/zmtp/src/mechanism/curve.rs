//! CURVE (RFC 26, CurveZMQ): a client that has the server's public key talks to no other server,
//! and proves its own key.
//!
//! What libzmq does beside the specification is done here too: a MESSAGE goes in a frame without
//! the command flag, and bit 1 of a message's flags marks a command (SUBSCRIBE, CANCEL, PING,
//! PONG), while RFC 26 reserves it. What libzmq does not check is checked: the server's key in a
//! vouch, and that keys are canonical and not of low order.
//!
//! The primitives are those of the crate `crypto_box`. A cookie is 96 random bytes which the
//! connection remembers: RFC 26 leaves its content to the server, and ZMTP runs on connections, so
//! that nothing is won by keeping the state in the cookie.

mod boxes;
mod client;
mod keys;
mod server;
mod z85;

use super::Token;

pub(crate) use self::boxes::Opener;
pub use self::boxes::{BegunBox, OVERHEAD, Sealer};
pub(crate) use self::client::Client;
pub use self::keys::{KeyPair, PublicKey, SecretKey};
pub(crate) use self::server::Server;
pub use self::z85::{KEY_BYTES, KeyError};

/// Size of a cookie in bytes.
const COOKIE_BYTES: usize = 96;
/// Size of a WELCOME command in bytes.
const WELCOME_BYTES: usize = 168;
/// Size of a HELLO command in bytes.
const HELLO_BYTES: usize = 200;
/// Size of an INITIATE command without metadata, in bytes.
const INITIATE_BYTES: usize = 257;

/// Fills bytes with random ones of the system. The state machine has no source of its own.
pub type FillRandom = fn(&mut [u8]);

/// A server's keys and rules for CURVE.
#[derive(Debug)]
pub struct ServerSide {
    /// Our long-term keys, of which a client may know any one. The first is tried first; each
    /// further one costs a product more for a client that knows none.
    pub keys: Vec<KeyPair>,
    /// The source of short-term keys, cookies and long nonces.
    pub random: FillRandom,
}

/// A client's keys for CURVE.
#[derive(Debug)]
pub struct ClientSide {
    /// Our long-term keys.
    pub keys: KeyPair,
    /// The server's long-term key.
    pub server: PublicKey,
    /// Shown to the server as property `X-Token`, once it has proven its key.
    pub token: Option<Token>,
    /// The source of short-term keys and long nonces.
    pub random: FillRandom,
}

impl PartialEq for ServerSide {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys
    }
}

impl Eq for ServerSide {}

impl PartialEq for ClientSide {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.server == other.server && self.token == other.token
    }
}

impl Eq for ClientSide {}

/// A new short-term key.
fn ephemeral(random: FillRandom) -> SecretKey {
    SecretKey::from_bytes(bytes(random))
}

/// New random bytes.
fn bytes<const SIZE: usize>(random: FillRandom) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    random(&mut bytes);
    bytes
}

/// Takes a field of a fixed size off the front of a command; sizes were checked before.
fn field<const SIZE: usize>(input: &mut &[u8]) -> Result<[u8; SIZE], crate::Error> {
    let Some((field, rest)) = input.split_first_chunk() else {
        return Err(crate::Error::malformed("CURVE command", "it ends within a field"));
    };
    *input = rest;
    Ok(*field)
}
