//! NULL (RFC 37): each side sends READY with its metadata.

use super::{Done, Ours, Step, read_peer};
use crate::Minor;
use crate::command::{self, Command};
use crate::error::{Error, printable};

/// Appends our READY.
pub(super) fn put_ready(out: &mut Vec<u8>, ours: Ours<'_>) {
    let mut properties = Vec::new();
    ours.put_properties(&mut properties);
    command::put(out, "READY", &[&properties]);
}

/// Takes the peer's READY.
pub(super) fn take(body: &[u8], ours: Ours<'_>, minor: Minor) -> Result<Step, Error> {
    match command::parse(body)? {
        Command::Ready { metadata } => {
            let peer = read_peer(metadata, ours.socket_type, minor, None)?;
            Ok(Step::Done(Box::new(Done { peer, boxes: None })))
        }
        Command::Error { reason } => Err(Error::PeerError { reason: printable(reason) }),
        other => {
            let name = other.name();
            Err(Error::malformed("handshake", format!("{name} where READY or ERROR should be")))
        }
    }
}
