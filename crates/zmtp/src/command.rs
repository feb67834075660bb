//! Command frames (RFC 37, "Commands"): a name with its size in one octet, then data.

use crate::error::{Error, printable};
use crate::frame::{COMMAND, LONG, SHORT_MAX};

/// The longest context of a PING, in bytes (RFC 37, "Connection Heartbeating").
const MAX_CONTEXT: usize = 16;

/// A command that means something in any state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Ready { metadata: &'a [u8] },
    Error { reason: &'a [u8] },
    Ping { ttl_tenths: u16, context: &'a [u8] },
    Pong,
    Subscribe(&'a [u8]),
    Cancel(&'a [u8]),
    Unknown { name: &'a [u8] },
}

impl Command<'_> {
    /// The name, for a log line.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ready { .. } => "READY".into(),
            Self::Error { .. } => "ERROR".into(),
            Self::Ping { .. } => "PING".into(),
            Self::Pong => "PONG".into(),
            Self::Subscribe(_) => "SUBSCRIBE".into(),
            Self::Cancel(_) => "CANCEL".into(),
            Self::Unknown { name } => printable(name),
        }
    }
}

/// Reads the body of a command frame.
pub(crate) fn parse(body: &[u8]) -> Result<Command<'_>, Error> {
    let Some((&size, rest)) = body.split_first() else {
        return Err(Error::malformed("command", "no name"));
    };
    let Some((name, data)) = rest.split_at_checked(usize::from(size)) else {
        let found = format!("a name of {size} bytes in a body of {}", body.len());
        return Err(Error::malformed("command", found));
    };
    if name.is_empty() || !name.iter().all(u8::is_ascii_alphabetic) {
        let found = format!("the name {:?}; letters are allowed", printable(name));
        return Err(Error::malformed("command", found));
    }
    match name {
        b"READY" => Ok(Command::Ready { metadata: data }),
        b"ERROR" => parse_error(data),
        b"PING" => parse_ping(data),
        b"PONG" => Ok(Command::Pong),
        b"SUBSCRIBE" => Ok(Command::Subscribe(data)),
        b"CANCEL" => Ok(Command::Cancel(data)),
        name => Ok(Command::Unknown { name }),
    }
}

fn parse_error(data: &[u8]) -> Result<Command<'_>, Error> {
    match data.split_first() {
        Some((&size, reason)) if usize::from(size) == reason.len() => Ok(Command::Error { reason }),
        Some((&size, reason)) => {
            let found = format!("a reason of {size} bytes in the place of {}", reason.len());
            Err(Error::malformed("ERROR command", found))
        }
        None => Err(Error::malformed("ERROR command", "no reason")),
    }
}

fn parse_ping(data: &[u8]) -> Result<Command<'_>, Error> {
    let Some((ttl, context)) = data.split_first_chunk::<2>() else {
        let found = format!("{} bytes of data, at least 2 are needed", data.len());
        return Err(Error::malformed("PING command", found));
    };
    if context.len() > MAX_CONTEXT {
        let found =
            format!("a context of {} bytes, at most {MAX_CONTEXT} are allowed", context.len());
        return Err(Error::malformed("PING command", found));
    }
    Ok(Command::Ping { ttl_tenths: u16::from_be_bytes(*ttl), context })
}

/// Appends a whole command frame; the parts of its data are written one after the other.
pub(crate) fn put(out: &mut Vec<u8>, name: &str, data: &[&[u8]]) {
    let size = 1 + name.len() + data.iter().map(|part| part.len()).sum::<usize>();
    if size <= SHORT_MAX {
        out.extend_from_slice(&[COMMAND, size as u8]);
    } else {
        out.push(COMMAND | LONG);
        out.extend_from_slice(&(size as u64).to_be_bytes());
    }
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    for part in data {
        out.extend_from_slice(part);
    }
}

/// Appends an ERROR command; of a long reason the first 255 bytes.
pub(crate) fn put_error(out: &mut Vec<u8>, reason: &str) {
    let reason = reason.as_bytes();
    let reason = reason.get(..255).unwrap_or(reason);
    put(out, "ERROR", &[&[reason.len() as u8], reason]);
}
