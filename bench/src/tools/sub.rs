//! The least that makes a SUB peer: a ZMTP 3.1 greeting, READY, one subscription.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use zafka_zmtp::frame::{COMMAND, read_header};

use crate::Outcome;

/// Longest wait for the relay to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Size of a greeting in bytes.
const GREETING: usize = 64;

/// Connects to `address` as SUB and subscribes to `prefix`. Tries again until the other side
/// listens.
///
/// # Errors
/// The connection, or an answer that is not ZMTP with the NULL mechanism.
pub fn connect(address: &str, prefix: &[u8]) -> Outcome<TcpStream> {
    let mut stream = persist(|| TcpStream::connect(address))?;
    introduce(&mut stream, prefix)?;
    Ok(stream)
}

/// Connects, again and again until the other side listens.
///
/// # Errors
/// The last attempt's, if it does not in time.
pub fn persist(connect: impl Fn() -> io::Result<TcpStream>) -> Outcome<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect() {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}

/// Makes a connection a SUB that has subscribed to `prefix`.
///
/// # Errors
/// The connection, or an answer that is not ZMTP with the NULL mechanism.
pub fn introduce(stream: &mut TcpStream, prefix: &[u8]) -> Outcome<()> {
    shake_hands(stream, b"SUB")?;
    // Only now: libzmq takes what comes before its own READY for a part of the handshake.
    stream.write_all(&subscription(prefix)?)?;
    Ok(())
}

/// Shakes hands as a peer of this socket type.
///
/// # Errors
/// The connection, or an answer that is not ZMTP with the NULL mechanism.
pub fn shake_hands(stream: &mut TcpStream, socket_type: &[u8]) -> Outcome<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&hello(socket_type)?)?;
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting)?;
    if !greeting.starts_with(&[0xff]) || greeting.get(10) != Some(&3) {
        return Err("the relay's greeting is not ZMTP 3".into());
    }
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let ready = read_header(&head).filter(|header| header.flags == COMMAND);
    let Some(ready) = ready else { return Err("the relay did not answer with READY".into()) };
    let mut body = vec![0; usize::try_from(ready.body_size)?];
    stream.read_exact(&mut body)?;
    Ok(())
}

/// Greeting and READY of a socket type.
///
/// # Errors
/// A name of more than 200 bytes.
pub fn hello(socket_type: &[u8]) -> Outcome<Vec<u8>> {
    let mut hello = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    hello.extend_from_slice(b"NULL");
    hello.resize(GREETING, 0);
    let size = u32::try_from(socket_type.len())?.to_be_bytes();
    let ready = [b"\x05READY\x0bSocket-Type", &size[..], socket_type].concat();
    hello.extend_from_slice(&[COMMAND, u8::try_from(ready.len())?]);
    hello.extend_from_slice(&ready);
    Ok(hello)
}

/// The subscription as a message, which libzmq of every version understands.
///
/// # Errors
/// A prefix of more than 254 bytes.
pub fn subscription(prefix: &[u8]) -> Outcome<Vec<u8>> {
    let mut frame = vec![0, u8::try_from(prefix.len() + 1)?, 1];
    frame.extend_from_slice(prefix);
    Ok(frame)
}
