//! Raw peers other than SUB, and connections as over a network.

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::sub::{persist, shake_hands};
use crate::Outcome;

/// The receive buffer and the segment size of a peer behind a plain network. Loopback's own would
/// let the kernel keep megabytes for each of a thousand peers.
const RECEIVE_BUFFER: usize = 16 * 1024;
const SEGMENT: u32 = 1400;

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

/// Connects likewise, with the buffer and the segments of a peer behind a plain network.
///
/// # Errors
/// The last attempt's, if it does not in time.
pub fn connect_as_over_a_network(address: SocketAddr) -> Outcome<TcpStream> {
    persist(|| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // Both count only if they are set before the connection is made.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_tcp_mss(SEGMENT)?;
        socket.connect(&address.into())?;
        Ok(socket.into())
    })
}
