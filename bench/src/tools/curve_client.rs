//! SUBs with CURVE, each with a new key.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_zmtp::curve::{ClientSide, PublicKey};
use zafka_zmtp::{Config, Connection, Mechanism, Role, SocketType, Token};

use crate::Outcome;
use crate::keys::{new_key, random};

/// Longest wait for the relay's part of a handshake.
pub const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER: usize = 4096;

/// A SUB whose handshake is done.
pub struct Sub {
    pub stream: TcpStream,
    pub connection: Connection,
}

impl Sub {
    /// Shakes hands by a connection, and subscribes to a prefix.
    ///
    /// # Errors
    /// The relay has closed it, or did not answer in time.
    pub fn shake_hands(
        mut stream: TcpStream,
        prefix: &[u8],
        server: PublicKey,
        token: Option<Token>,
    ) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut connection = client(prefix, server, token);
        let mut buffer = [0; BUFFER];
        while !write_output(&mut connection, &mut stream)? {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err("the relay closed the connection in its handshake".into());
            }
            connection.handle_input(buffer.get(..read).unwrap_or_default(), Instant::now())?;
        }
        Ok(Self { stream, connection })
    }
}

/// The state of a SUB that shakes hands, and subscribes to a prefix.
pub fn client(prefix: &[u8], server: PublicKey, token: Option<Token>) -> Connection {
    let side = ClientSide { keys: new_key(), server, token, random };
    let mechanism = Mechanism::CurveClient(Arc::new(side));
    let mut connection = connection(SocketType::Sub, Role::Client, mechanism);
    connection.subscribe(prefix);
    connection
}

/// The state of a connection without heartbeats.
pub fn connection(socket_type: SocketType, role: Role, mechanism: Mechanism) -> Connection {
    let config = Config {
        socket_type,
        role,
        mechanism,
        identity: Default::default(),
        max_frame: 1 << 26,
        max_message: 1 << 26,
        heartbeat: None,
    };
    Connection::new(config, Instant::now())
}

/// Writes what a connection has to say. Returns true once, when its handshake is done: what it says
/// then goes in boxes. It is little: the kernel takes all of it.
///
/// # Errors
/// The stream.
pub fn write_output(connection: &mut Connection, stream: &mut TcpStream) -> Outcome<bool> {
    while let Some(output) = connection.poll_output() {
        stream.write_all(&output)?;
    }
    let Some(mut sealer) = connection.take_sealer() else { return Ok(false) };
    let mut boxed = Vec::new();
    while let Some(output) = connection.poll_output() {
        sealer.seal(&output, &mut boxed)?;
    }
    stream.write_all(&boxed)?;
    Ok(true)
}
