//! A ZMTP 3.1 peer by hand, for what no library sends.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;

/// A connection whose handshake is done.
pub struct Raw(pub TcpStream);

impl Raw {
    /// Connects to `tcp://HOST:PORT` as a peer of this socket type.
    pub fn connect(endpoint: &str, socket_type: &str) -> Self {
        Self::connect_as(endpoint, socket_type, b"")
    }

    /// The same with a routing id, unless that is empty.
    pub fn connect_as(endpoint: &str, socket_type: &str, id: &[u8]) -> Self {
        let mut stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
        greeting.extend_from_slice(b"NULL");
        greeting.resize(64, 0);
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend_from_slice(&u32::try_from(socket_type.len()).unwrap().to_be_bytes());
        ready.extend_from_slice(socket_type.as_bytes());
        if !id.is_empty() {
            ready.extend_from_slice(b"\x08Identity");
            ready.extend_from_slice(&u32::try_from(id.len()).unwrap().to_be_bytes());
            ready.extend_from_slice(id);
        }
        greeting.extend_from_slice(&[4, u8::try_from(ready.len()).unwrap()]);
        greeting.extend_from_slice(&ready);
        stream.write_all(&greeting).unwrap();
        let mut theirs = [0; 66];
        stream.read_exact(&mut theirs).unwrap();
        let mut ready = vec![0; theirs[65].into()];
        stream.read_exact(&mut ready).unwrap();
        assert!(ready.starts_with(b"\x05READY"), "{ready:?}");
        Self(stream)
    }

    /// Sends a message.
    pub fn send(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        self.send_together(&[frames])
    }

    /// Sends messages that are read together.
    pub fn send_together(&mut self, messages: &[&[&[u8]]]) -> io::Result<()> {
        let bytes: Vec<u8> = messages.iter().flat_map(|frames| encoded(frames)).collect();
        self.0.write_all(&bytes)
    }

    /// Receives a message of short frames.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let mut header = [0; 2];
            self.0.read_exact(&mut header).unwrap();
            assert!(header[0] < 2, "a short frame: {header:?}");
            let mut frame = vec![0; header[1].into()];
            self.0.read_exact(&mut frame).unwrap();
            frames.push(frame);
            if header[0] == 0 {
                return frames;
            }
        }
    }
}

/// A message as it goes over the wire.
fn encoded(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let more = u8::from(index + 1 < frames.len());
        match u8::try_from(frame.len()) {
            Ok(size) => bytes.extend_from_slice(&[more, size]),
            Err(_) => {
                bytes.push(more | 2);
                bytes.extend_from_slice(&(frame.len() as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}
