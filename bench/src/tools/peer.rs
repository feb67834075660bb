//! Raw peers other than SUB.

use std::net::TcpStream;

use super::sub::{persist, shake_hands};
use crate::Outcome;

/// Connects to `address` as a peer of this socket type, again and again until the other side
/// listens.
///
/// # Errors
/// The connection, or an answer that is not ZMTP with the NULL mechanism.
pub fn connect(address: &str, socket_type: &[u8]) -> Outcome<TcpStream> {
    let mut stream = persist(|| TcpStream::connect(address))?;
    shake_hands(&mut stream, socket_type)?;
    Ok(stream)
}
