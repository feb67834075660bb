//! Our own sink: raw SUB connections of which one is counted and all are read, so that the sink is
//! not what is measured.
//!
//! Writes "S RECORDS BYTES" as the C programs do (see `baseline/common.h`): the records of the
//! first connection, and the bytes of the one that has had the fewest.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::scan::{Kind, Scanner};
use super::{sub, usage};
use crate::Outcome;

/// Bytes that one read takes.
const BUFFER: usize = 256 * 1024;
/// Time between two lines.
const TICK: Duration = Duration::from_millis(20);

/// `counting-sink ADDRESS PREFIX message|batch CONNECTIONS`
///
/// # Errors
/// The arguments, the connections, or the relay's end.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, prefix, kind, connections] = arguments else {
        return Err(usage("counting-sink ADDRESS PREFIX message|batch CONNECTIONS"));
    };
    let kind = if *kind == "batch" { Kind::Batch } else { Kind::Message };
    let streams = (0..connections.parse::<usize>()?)
        .map(|_| sub::connect(address, prefix.as_bytes()))
        .collect::<Outcome<Vec<TcpStream>>>()?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (stream, index) in streams.iter().zip(0..) {
        stream.set_nonblocking(true)?;
        epoll::add(&poll, stream, epoll::EventData::new_u64(index), epoll::EventFlags::IN)?;
    }
    let mut sink = CountingSink::new(kind, streams);
    let mut ready = Vec::with_capacity(256);
    let timeout = Timespec::try_from(TICK)?;
    let mut next_line = Instant::now();
    loop {
        ready.clear();
        epoll::wait(&poll, spare_capacity(&mut ready), Some(&timeout))?;
        for event in &ready {
            sink.read(usize::try_from(event.data.u64())?)?;
        }
        let now = Instant::now();
        if now >= next_line {
            next_line = now + TICK;
            sink.tell();
        }
    }
}

struct CountingSink {
    connections: Vec<(TcpStream, u64)>,
    scanner: Scanner,
    /// Bytes of the first connection that the scanner has left, at the start.
    counted: Vec<u8>,
    left: usize,
    /// A place for the bytes of all other connections.
    unread: Vec<u8>,
}

impl CountingSink {
    fn new(kind: Kind, streams: Vec<TcpStream>) -> Self {
        Self {
            connections: streams.into_iter().map(|stream| (stream, 0)).collect(),
            scanner: Scanner::new(kind),
            counted: vec![0; BUFFER],
            left: 0,
            unread: vec![0; BUFFER],
        }
    }

    /// Reads once from a connection that has something.
    fn read(&mut self, index: usize) -> Outcome<()> {
        let Some((stream, bytes)) = self.connections.get_mut(index) else { return Ok(()) };
        let buffer = match index {
            0 => self.counted.get_mut(self.left..).unwrap_or_default(),
            _ => self.unread.as_mut_slice(),
        };
        let size = match stream.read(buffer) {
            Ok(0) => return Err("the relay closed the connection".into()),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        *bytes += size as u64;
        if index == 0 {
            let filled = self.left + size;
            let taken = self.scanner.feed(self.counted.get(..filled).unwrap_or_default());
            self.counted.copy_within(taken..filled, 0);
            self.left = filled - taken;
        }
        Ok(())
    }

    fn tell(&self) {
        let least = self.connections.iter().map(|(_, bytes)| *bytes).min().unwrap_or(0);
        println!("S {} {least}", self.scanner.records);
    }
}
