//! SUBs with CURVE: a sink of which one connection is opened and counted, idle ones, and ones that
//! shake hands and go.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use zafka_zmtp::curve::PublicKey;
use zafka_zmtp::{Event, Token};

use super::curve_client::Sub;
use super::idle_peers::hold;
use super::peer::connect_as_over_a_network;
use super::scan::Kind;
use super::scan::PACKED_LENGTH;
use super::sub::persist;
use super::usage;
use crate::Outcome;

/// Bytes that one read takes.
const BUFFER: usize = 256 * 1024;
/// Time between two lines.
const TICK: Duration = Duration::from_millis(20);

/// Connects and subscribes. Tries again until the other side listens.
fn connect(address: &str, prefix: &[u8], server: PublicKey, token: Option<Token>) -> Outcome<Sub> {
    Sub::shake_hands(persist(|| TcpStream::connect(address))?, prefix, server, token)
}

/// `curve-sink ADDRESS PREFIX message|batch CONNECTIONS SERVER_KEY`: as `counting-sink`.
///
/// # Errors
/// The arguments, the connections, or the relay's end.
pub fn sink(arguments: &[&str]) -> Outcome<()> {
    let [address, prefix, kind, connections, server] = arguments else {
        return Err(usage("curve-sink ADDRESS PREFIX message|batch CONNECTIONS SERVER_KEY"));
    };
    let kind = if *kind == "batch" { Kind::Batch } else { Kind::Message };
    let server = server.parse()?;
    let subs = (0..connections.parse::<usize>()?)
        .map(|_| connect(address, prefix.as_bytes(), server, None));
    let mut subs = subs.collect::<Outcome<Vec<Sub>>>()?;
    for sub in &subs {
        sub.stream.set_nonblocking(true)?;
    }
    let (mut records, mut bytes) = (0, vec![0u64; subs.len()]);
    let mut buffer = vec![0; BUFFER];
    let mut next_line = Instant::now();
    loop {
        let mut is_idle = true;
        for (index, (sub, bytes)) in subs.iter_mut().zip(&mut bytes).enumerate() {
            let read = match sub.stream.read(&mut buffer) {
                Ok(0) => return Err("the relay closed the connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            (is_idle, *bytes) = (false, *bytes + read as u64);
            // The boxes of the others are read and left alone.
            if index == 0 {
                let input = buffer.get(..read).unwrap_or_default();
                sub.connection.handle_input(input, Instant::now())?;
                while let Some(event) = sub.connection.poll_event() {
                    records += count(kind, &event);
                }
            }
        }
        let now = Instant::now();
        if now >= next_line {
            next_line = now + TICK;
            println!("S {records} {}", bytes.iter().min().unwrap_or(&0));
        }
        if is_idle {
            sleep(Duration::from_millis(1));
        }
    }
}

/// The records of a message.
fn count(kind: Kind, event: &Event) -> u64 {
    let Event::Message(frames) = event else { return 0 };
    let mut packed = match (kind, frames.last()) {
        (Kind::Batch, Some(frame)) => &frame[..],
        (Kind::Message, _) | (_, None) => return 1,
    };
    let mut records = 0;
    while let Some((length, rest)) = packed.split_first_chunk::<PACKED_LENGTH>() {
        records += 1;
        packed = rest.get(u32::from_le_bytes(*length) as usize..).unwrap_or_default();
    }
    records
}

/// `curve-idle ADDRESS COUNT SERVER_KEY`: as `idle-peers`.
///
/// # Errors
/// The arguments or the connections.
pub fn idle(arguments: &[&str]) -> Outcome<()> {
    let [address, count, server] = arguments else {
        return Err(usage("curve-idle ADDRESS COUNT SERVER_KEY"));
    };
    let server = server.parse()?;
    hold(count, |prefix| connect(address, prefix, server, None).map(|sub| sub.stream))
}

/// `curve-stalled ADDRESS COUNT SERVER_KEY PAUSE_MS`: so many SUBs connect, one after the other
/// with a pause in between, shake hands, subscribe to everything, and never read. It says once that
/// they are there.
///
/// # Errors
/// The arguments or the connections.
pub fn stalled(arguments: &[&str]) -> Outcome<()> {
    let [address, count, server, pause] = arguments else {
        return Err(usage("curve-stalled ADDRESS COUNT SERVER_KEY PAUSE_MS"));
    };
    let (address, server) = (address.parse()?, server.parse()?);
    let pause = Duration::from_millis(pause.parse()?);
    hold(count, |_| {
        sleep(pause);
        let stream = connect_as_over_a_network(address)?;
        Ok(Sub::shake_hands(stream, b"", server, None)?.stream)
    })
}

/// `curve-handshakes ADDRESS SERVER_KEY [TOKENS]`: connects, shakes hands and goes, again and
/// again; the records of its lines are handshakes. With a file of tokens, each shows the next one.
///
/// # Errors
/// The arguments, the connections, or no token that is left.
pub fn handshakes(arguments: &[&str]) -> Outcome<()> {
    let (address, server, file) = match arguments {
        [address, server] => (address, server, None),
        [address, server, file] => (address, server, Some(file)),
        _ => return Err(usage("curve-handshakes ADDRESS SERVER_KEY [TOKENS]")),
    };
    let server = server.parse()?;
    let tokens = file.map(fs::read_to_string).transpose()?;
    let mut tokens = tokens.as_deref().map(str::lines);
    let (mut done, mut next_line) = (0u64, Instant::now());
    loop {
        let token = match &mut tokens {
            None => None,
            Some(tokens) => Some(Token::new(tokens.next().ok_or("no token is left")?.to_owned())),
        };
        connect(address, b"nobody-publishes", server, token)?;
        done += 1;
        let now = Instant::now();
        if now >= next_line {
            next_line = now + TICK;
            println!("S {done} 0");
        }
    }
}
