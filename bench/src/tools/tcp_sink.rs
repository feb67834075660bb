//! A bare TCP sink: takes connections of SUB peers, answers their handshake without looking at it,
//! and throws away what they send. The least that a server can do for them.

use std::io::{self, Write};
use std::net::TcpListener;
use std::thread;

use super::{sub, usage};
use crate::Outcome;

/// `tcp-sink ADDRESS`
///
/// # Errors
/// The arguments, the address, or a connection.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address] = arguments else { return Err(usage("tcp-sink ADDRESS")) };
    for stream in TcpListener::bind(address)?.incoming() {
        let mut stream = stream?;
        stream.write_all(&sub::hello(b"PUB")?)?;
        // Ends with the connection. A read is all that each frame costs.
        thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
    }
    Ok(())
}
