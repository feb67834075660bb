//! The floor: one process that copies from one loopback socket to another. Nothing that relays
//! bytes through user space can cost less.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::usage;
use crate::Outcome;

/// Bytes that one copy takes.
pub const BUFFER: usize = 256 * 1024;

/// `floor ADDRESS_IN ADDRESS_OUT`: listens on the one, connects to the other, and copies until the
/// end.
///
/// # Errors
/// The arguments or the connections.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address_in, address_out] = arguments else {
        return Err(usage("floor ADDRESS_IN ADDRESS_OUT"));
    };
    let listener = TcpListener::bind(address_in)?;
    println!("R");
    let (mut from, _) = listener.accept()?;
    let mut to = TcpStream::connect(address_out)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let size = from.read(&mut buffer)?;
        if size == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..size).unwrap_or_default())?;
    }
}
