//! Clients in numbers, in one thread: strangers that flood a relay with CURVE, or good peers.
//! Whoever is closed connects again after as long as libzmq waits.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use socket2::{Domain, Socket, Type};
use zafka_zmtp::curve::{PublicKey, ServerSide};
use zafka_zmtp::{Mechanism, Role, SocketType, Token};

use super::curve_client::{Client, connection};
use super::usage;
use crate::Outcome;
use crate::keys::{new_key, random};

/// Pause until a lost connection is made again: libzmq's `ZMQ_RECONNECT_IVL`.
const RECONNECT: Duration = Duration::from_millis(100);
/// Time between two lines.
const TICK: Duration = Duration::from_millis(20);
/// Connections that are begun before the answers to others are looked at.
const BURST: usize = 64;
/// Sockets of which an answer is taken at a time.
const EVENTS: usize = 1024;
const BUFFER: usize = 16 * 1024;
/// A prefix that no topic has.
const NOTHING: &[u8] = b"nobody-publishes";
/// Bytes of the name and box of a HELLO that nobody made for a server.
const FORGED_HELLO: usize = 200;

/// The way of a crowd: what each of its connections does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It connects and says nothing.
    Silent,
    /// It sends a HELLO that nobody made for this server, and nothing more.
    Forged,
    /// It sends a HELLO that is right, and nothing more.
    Halfway,
    /// It shakes hands with a new key, and shows a token if it has one; then it stays, subscribed
    /// to something else.
    Whole,
}

impl Way {
    fn of(name: &str) -> Outcome<Self> {
        Ok(match name {
            "silent" => Self::Silent,
            "forged" => Self::Forged,
            "halfway" => Self::Halfway,
            "whole" => Self::Whole,
            other => return Err(format!("{other:?} is no way of a crowd").into()),
        })
    }
}

/// All connections.
struct Crowd {
    way: Way,
    target: SocketAddr,
    sources: u32,
    server: PublicKey,
    token: Option<Token>,
    /// The bytes that a stranger begins with, and leaves it at.
    opening: Vec<u8>,
    epoll: OwnedFd,
    members: Vec<Option<Member>>,
    /// Connections that are to be made, each from its time on.
    due: VecDeque<(Instant, usize)>,
    /// Handshakes that are done, of connections that are there.
    ready: usize,
    /// Connections that were begun.
    begun: u64,
}

struct Member {
    stream: TcpStream,
    /// The client, with a handshake of its own.
    client: Option<Client>,
    is_ready: bool,
    is_connected: bool,
}

/// `crowd ADDRESS COUNT silent|forged|halfway|whole SOURCES SERVER_KEY [TOKEN]`: holds so many
/// connections from so many addresses of the loopback (127.1.0.1 and up). Its lines tell the
/// handshakes of connections that are there, and the connections that were begun.
///
/// # Errors
/// The arguments, or a lack of files or ports.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, count, way, sources, server, token @ ..] = arguments else {
        return Err(usage(
            "crowd ADDRESS COUNT silent|forged|halfway|whole SOURCES SERVER_KEY [TOKEN]",
        ));
    };
    let (count, server) = (count.parse::<usize>()?, server.parse()?);
    let way = Way::of(way)?;
    let now = Instant::now();
    let mut crowd = Crowd {
        way,
        target: address.parse()?,
        sources: sources.parse::<u32>()?.max(1),
        server,
        token: token.first().map(|token| Token::new(token.as_bytes().to_vec())),
        opening: opening(way, server)?,
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        members: (0..count).map(|_| None).collect(),
        due: (0..count).map(|index| (now, index)).collect(),
        ready: 0,
        begun: 0,
    };
    crowd.hold()
}

impl Crowd {
    fn hold(&mut self) -> Outcome<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut next_line = Instant::now();
        loop {
            let mut now = Instant::now();
            for _ in 0..BURST {
                let Some(&(_, index)) = self.due.front().filter(|(at, _)| *at <= now) else {
                    break;
                };
                self.due.pop_front();
                self.begin(index)?;
            }
            let is_busy = self.due.front().is_some_and(|(at, _)| *at <= now);
            let wait = Timespec { tv_sec: 0, tv_nsec: if is_busy { 0 } else { 5_000_000 } };
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                if self.handle(index).is_err() {
                    self.lose(index);
                }
            }
            now = Instant::now();
            if now >= next_line {
                next_line = now + TICK;
                println!("S {} {}", self.ready, self.begun);
            }
        }
    }

    /// Begins a connection; what is not there yet is told by its first event.
    fn begin(&mut self, index: usize) -> Outcome<()> {
        self.begun += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Without it ports would be kept for a minute after each connection.
        socket.set_linger(Some(Duration::ZERO))?;
        let source = Ipv4Addr::from_bits(0x7f01_0001 + index as u32 % self.sources);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&self.target.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                self.due.push_back((Instant::now() + RECONNECT, index));
                return Ok(());
            }
            _ => {}
        }
        let stream = TcpStream::from(socket);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(index as u64), flags)?;
        let client =
            (self.way == Way::Whole).then(|| Client::new(NOTHING, self.server, self.token.clone()));
        let member = Member { stream, client, is_ready: false, is_connected: false };
        if let Some(place) = self.members.get_mut(index) {
            *place = Some(member);
        }
        Ok(())
    }

    /// Something has happened on a connection.
    fn handle(&mut self, index: usize) -> Outcome<()> {
        let Some(Some(member)) = self.members.get_mut(index) else { return Ok(()) };
        if !member.is_connected {
            member.is_connected = true;
            member.stream.write_all(&self.opening)?;
        }
        if let Some(client) = &mut member.client {
            client.write_output(&mut member.stream)?;
        }
        let mut buffer = [0; BUFFER];
        loop {
            let read = match member.stream.read(&mut buffer) {
                Ok(0) => return Err("closed".into()),
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Some(client) = &mut member.client else { continue };
            client.connection.handle_input(read, Instant::now())?;
            if client.write_output(&mut member.stream)? {
                member.is_ready = true;
                self.ready += 1;
            }
            while client.connection.poll_event().is_some() {}
        }
    }

    /// Closes a connection, to be made again.
    fn lose(&mut self, index: usize) {
        let member = self.members.get_mut(index).and_then(Option::take);
        self.ready -= usize::from(member.is_some_and(|member| member.is_ready));
        self.due.push_back((Instant::now() + RECONNECT, index));
    }
}

/// The bytes that all connections of a way begin with. A HELLO that is right is so for any
/// connection, as often as it is sent.
fn opening(way: Way, server: PublicKey) -> Outcome<Vec<u8>> {
    if matches!(way, Way::Silent | Way::Whole) {
        return Ok(Vec::new());
    }
    let mut ours = Client::new(NOTHING, server, None).connection;
    let side = ServerSide { keys: vec![new_key()], random };
    let mechanism = Mechanism::CurveServer(Arc::new(side));
    // A server's greeting is the same whatever its key.
    let mut theirs = connection(SocketType::Pub, Role::Server, mechanism);
    let mut opening = Vec::new();
    while let Some(output) = ours.poll_output() {
        opening.extend_from_slice(&output);
    }
    let greeting = theirs.poll_output().ok_or("a server without a greeting")?;
    ours.handle_input(&greeting, Instant::now())?;
    let hello = ours.poll_output().ok_or("a client without a HELLO")?;
    opening.extend_from_slice(&hello);
    if way == Way::Forged {
        let from = opening.len().saturating_sub(FORGED_HELLO / 2);
        opening.get_mut(from..).unwrap_or_default().fill(9);
    }
    Ok(opening)
}
