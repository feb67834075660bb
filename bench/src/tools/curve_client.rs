//! SUBs with CURVE, each with a new key.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_zmtp::curve::{ClientSide, PublicKey, Sealer};
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
        let mut client = Client::new(prefix, server, token);
        let mut buffer = [0; BUFFER];
        while !client.write_output(&mut stream)? {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Err("the relay closed the connection in its handshake".into());
            }
            let input = buffer.get(..read).unwrap_or_default();
            client.connection.handle_input(input, Instant::now())?;
        }
        Ok(Self { stream, connection: client.connection })
    }
}

/// The state of a SUB, from the beginning of its handshake on.
pub struct Client {
    pub connection: Connection,
    /// Boxes what it says, once its handshake is done.
    sealer: Option<Sealer>,
}

impl Client {
    /// One that shakes hands, and subscribes to a prefix.
    pub fn new(prefix: &[u8], server: PublicKey, token: Option<Token>) -> Self {
        let side = ClientSide { keys: new_key(), server, token, random };
        let mechanism = Mechanism::CurveClient(Arc::new(side));
        let mut connection = connection(SocketType::Sub, Role::Client, mechanism);
        connection.subscribe(prefix);
        Self { connection, sealer: None }
    }

    /// Writes what it has to say. Returns true once, when its handshake is done: what it says then
    /// goes in boxes. It is little: the kernel takes all of it.
    ///
    /// # Errors
    /// The stream.
    pub fn write_output(&mut self, stream: &mut TcpStream) -> Outcome<bool> {
        let mut wire = Vec::new();
        let mut is_done = false;
        if self.sealer.is_none() {
            while let Some(output) = self.connection.poll_output() {
                wire.extend_from_slice(&output);
            }
            self.sealer = self.connection.take_sealer();
            is_done = self.sealer.is_some();
        }
        if let Some(sealer) = &mut self.sealer {
            while let Some(output) = self.connection.poll_output() {
                sealer.seal(&output, &mut wire)?;
            }
        }
        stream.write_all(&wire)?;
        Ok(is_done)
    }
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
