//! Routes of one file by which a record goes round.

use zafka_bridge::loops::{Link, Loop, find};

use super::connects::{feeds, leads_to};
use super::reader::{Reader, Span};
use super::route::ReadRoute;
use super::socket::ReadSocket;

/// Reports loops: a route to Kafka that takes what another route of the file sends, and writes what
/// that one reads. Endpoints by a name that is not the same text are not looked up.
pub fn compare(reader: &Reader<'_>, routes: &[ReadRoute]) {
    let mut links = Vec::new();
    let mut places = Vec::new();
    for from in routes {
        for to in routes {
            let (Some(config), Some(socket)) = (&from.config, &from.socket) else { continue };
            let (Some(ingest), Some(other)) = (&to.ingest, &to.socket) else { continue };
            let Some((key, at)) = meeting(socket, other) else { continue };
            links.push(Link { from: config, to: ingest });
            places.push((key, at));
        }
    }
    for Loop { link, topics } in find(&links) {
        let (key, at) = &places[link];
        let from = &links[link].from.name;
        let found = format!(
            "what route {from:?} sends comes back to Kafka here, and goes round: {}",
            topics.join(" -> ")
        );
        reader.mistake(at, key, found, "a route that does not read what it writes");
    }
}

/// Returns the place at which the second socket meets the first, if it takes messages that the
/// first sends.
fn meeting(socket: &ReadSocket, other: &ReadSocket) -> Option<(String, Span)> {
    if !feeds(socket, other) {
        return None;
    }
    let connected = other
        .connects
        .iter()
        .find(|(endpoint, _)| socket.binds.iter().any(|(bound, _)| leads_to(endpoint, bound)));
    let bound = other
        .binds
        .iter()
        .find(|(bound, _)| socket.connects.iter().any(|(endpoint, _)| leads_to(endpoint, bound)));
    let of = |key: String, found: Option<&(_, Span)>| found.map(|(_, at)| (key, at.clone()));
    of(other.connect_key(), connected).or_else(|| of(format!("{}.bind", other.path), bound))
}
