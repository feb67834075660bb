//! The peers that a socket's own connections reach. Two of its endpoints may lead to one peer, such
//! as a name and an address. That peer is served once: a PUB that is connected twice sends
//! everything twice.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use parking_lot::Mutex;

use crate::Endpoint;
use crate::stream::Stream;

/// The address of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PeerAddress {
    Tcp(SocketAddr),
    /// A socket file, by its file system and its number there.
    Ipc(u64, u64),
}

/// The places that connections lead to now, each with the endpoint that led there.
#[derive(Debug, Default)]
pub(crate) struct Reached(Mutex<HashMap<PeerAddress, Endpoint>>);

/// A place that no other connection of the socket may lead to as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    reached: &'a Reached,
    place: Option<PeerAddress>,
}

impl Reached {
    /// Takes the place that a connection to `endpoint` has led to.
    ///
    /// # Errors
    /// The endpoint of the connection that leads there already.
    pub(crate) fn claim(
        &self,
        endpoint: &Endpoint,
        stream: &Stream,
    ) -> Result<Claim<'_>, Endpoint> {
        // An unknown address counts as a peer of its own.
        let place = place(endpoint, stream);
        if let Some(place) = place {
            let mut places = self.0.lock();
            if let Some(other) = places.get(&place) {
                return Err(other.clone());
            }
            places.insert(place, endpoint.clone());
        }
        Ok(Claim { reached: self, place })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.reached.0.lock().remove(&place);
        }
    }
}

fn place(endpoint: &Endpoint, stream: &Stream) -> Option<PeerAddress> {
    match (endpoint, stream) {
        (_, Stream::Tcp(stream)) => {
            let address = stream.peer_addr().ok()?;
            Some(PeerAddress::Tcp(match address.ip().to_canonical() {
                IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
                // Together with its scope, without which a link-local address may be many.
                IpAddr::V6(_) => address,
            }))
        }
        (Endpoint::Ipc(path), Stream::Ipc(_)) => {
            let file = fs::metadata(path).ok()?;
            Some(PeerAddress::Ipc(file.dev(), file.ino()))
        }
        (Endpoint::Tcp { .. }, Stream::Ipc(_)) => None,
    }
}
