//! A peer made by hand, which does only what a test tells it to.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::PATIENCE;

pub struct RawPeer(pub TcpStream);

/// The greeting of a NULL peer of version 3.`minor`.
pub fn greeting(minor: u8) -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, minor];
    greeting.extend_from_slice(b"NULL");
    greeting.resize(64, 0);
    greeting
}

/// A READY command that names a socket type.
pub fn ready(socket_type: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&(socket_type.len() as u32).to_be_bytes());
    body.extend_from_slice(socket_type.as_bytes());
    command(&body)
}

/// A command frame.
pub fn command(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![4, u8::try_from(body.len()).unwrap()];
    frame.extend_from_slice(body);
    frame
}

/// A subscription as a message, which every version has.
pub fn subscription(prefix: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, u8::try_from(prefix.len() + 1).unwrap(), 1];
    frame.extend_from_slice(prefix);
    frame
}

impl RawPeer {
    /// Connects and says nothing.
    pub async fn connect(address: &str) -> Self {
        Self(TcpStream::connect(address.strip_prefix("tcp://").unwrap()).await.unwrap())
    }

    /// Connects with a small receive buffer.
    pub async fn connect_small(address: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self(
            socket.connect(address.strip_prefix("tcp://").unwrap().parse().unwrap()).await.unwrap(),
        )
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(from: [u8; 4], address: &str) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((std::net::Ipv4Addr::from(from), 0).into())?;
        let to = address.strip_prefix("tcp://").unwrap().parse().unwrap();
        Ok(Self(socket.connect(to).await?))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Shakes hands as a SUB of version 3.`minor`, and reads our side's part of it.
    pub async fn shake_hands(&mut self, minor: u8) {
        self.shake_hands_as("SUB", minor).await;
    }

    /// Shakes hands as some socket type of version 3.`minor`, and reads our side's part of it.
    pub async fn shake_hands_as(&mut self, socket_type: &str, minor: u8) {
        self.try_to_shake_hands_as(socket_type, minor).await.unwrap();
    }

    /// The same.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn try_to_shake_hands_as(
        &mut self,
        socket_type: &str,
        minor: u8,
    ) -> std::io::Result<()> {
        self.0.write_all(&[greeting(minor), ready(socket_type)].concat()).await?;
        let mut theirs = [0; 64];
        self.0.read_exact(&mut theirs).await?;
        assert_eq!(&theirs[..12], b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01");
        let frame = self.try_frame().await?;
        assert!(frame.1.starts_with(b"\x05READY"), "{frame:?}");
        Ok(())
    }

    pub async fn subscribe(&mut self, prefix: &str) {
        self.send(&subscription(prefix.as_bytes())).await;
    }

    /// The next frame: its flags and its body.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        self.try_frame().await.unwrap()
    }

    async fn try_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let read = async {
            let flags = self.0.read_u8().await?;
            let size = match flags & 2 {
                0 => u64::from(self.0.read_u8().await?),
                _ => self.0.read_u64().await?,
            };
            let mut body = vec![0; size as usize];
            self.0.read_exact(&mut body).await?;
            Ok((flags, body))
        };
        timeout(PATIENCE, read).await.expect("a frame")
    }

    /// Reads all bytes until the connection ends, by an end or a reset.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("the end");
        bytes
    }
}
