//! Endpoints to connect to that lead to one peer, which would get everything twice, or to the relay
//! itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zafka_sockets::Endpoint;

use super::mistake::Mistake;
use super::reader::{Reader, Span};
use super::route::ReadRoute;
use super::socket::{ReadSocket, Role};

const ONCE: &str = "each peer once";

/// An endpoint to connect to, and its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The path of its key.
    key: String,
    endpoint: Endpoint,
    line: usize,
    column: usize,
}

/// Reports what a route connects to for the second time, and what the file itself binds. No name is
/// looked up.
pub fn compare(reader: &Reader<'_>, routes: &[ReadRoute]) {
    let sockets = || routes.iter().filter_map(|route| route.socket.as_ref());
    for socket in sockets() {
        let key = &socket.connect_key();
        for (index, (endpoint, span)) in socket.connects.iter().enumerate() {
            let mut before = socket.connects.iter().take(index).map(|(before, _)| before);
            if let Some(before) = before.find(|before| is_same_peer(before, endpoint)) {
                reader.mistake(span, key, twice(endpoint, before), ONCE);
            }
            // A `pub` and a `sub` may: what goes round between them is the loops' business.
            let bound = sockets().filter(|other| !feeds(socket, other) && !feeds(other, socket));
            if bound.flat_map(|other| &other.binds).any(|(bound, _)| leads_to(endpoint, bound)) {
                let found =
                    format!("{endpoint} is bound by this relay, which would connect to itself");
                reader.mistake(span, key, found, "endpoints that subscribers bind");
            }
        }
    }
}

/// The endpoints that each route connects to, for [`by_name`].
pub fn places(reader: &Reader<'_>, routes: &[ReadRoute]) -> Vec<Vec<Connect>> {
    let place = |key: &str, (endpoint, span): &(Endpoint, Span)| {
        let (line, column) = reader.place(span.start);
        Connect { key: key.to_owned(), endpoint: endpoint.clone(), line, column }
    };
    let sockets = routes.iter().filter_map(|route| route.socket.as_ref());
    let of_socket = |socket: &ReadSocket| {
        let key = socket.connect_key();
        socket.connects.iter().map(|connect| place(&key, connect)).collect()
    };
    sockets.map(of_socket).collect()
}

/// Returns the mistakes of routes that connect to something a second time, once names are looked
/// up. Only those are that could be one peer; a name without an address is none.
pub fn by_name(routes: &[Vec<Connect>], resolve: &dyn Fn(&str) -> Vec<IpAddr>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for connects in routes {
        let mut seen: Vec<(&Connect, Vec<IpAddr>)> = Vec::new();
        for connect in connects {
            let Endpoint::Tcp { host, .. } = &connect.endpoint else { continue };
            let same_port =
                connects.iter().filter(|other| is_same_port(&other.endpoint, &connect.endpoint));
            if same_port.count() < 2 {
                continue;
            }
            let addresses = match address(host) {
                Some(address) => vec![address],
                None => resolve(host).into_iter().map(reached).collect(),
            };
            let same = seen.iter().find(|(other, theirs)| {
                is_same_port(&other.endpoint, &connect.endpoint)
                    && addresses.iter().any(|address| theirs.contains(address))
            });
            if let Some((other, _)) = same {
                mistakes.push(Mistake {
                    line: connect.line,
                    column: connect.column,
                    key: connect.key.clone(),
                    found: twice(&connect.endpoint, &other.endpoint),
                    allowed: ONCE.to_owned(),
                });
            }
            seen.push((connect, addresses));
        }
    }
    mistakes
}

/// Returns true if the other socket takes messages of the kind that this one sends.
pub fn feeds(socket: &ReadSocket, other: &ReadSocket) -> bool {
    socket.role == Role::Publishes && other.role == Role::Subscribes
}

fn twice(endpoint: &Endpoint, before: &Endpoint) -> String {
    if endpoint == before {
        return format!("{endpoint} is there twice, and its peer would get everything twice");
    }
    format!("{endpoint} leads to the same peer as {before}, which would get everything twice")
}

/// Returns true if two endpoints certainly lead to one peer.
fn is_same_peer(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Tcp { host, .. }, Endpoint::Tcp { host: other_host, .. }) => {
            is_same_port(one, other) && is_same_host(host, other_host)
        }
        _ => one == other,
    }
}

fn is_same_port(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Tcp { port, .. }, Endpoint::Tcp { port: other, .. }) => port == other,
        _ => false,
    }
}

/// Returns true if connecting to `endpoint` certainly leads to the socket that is bound to `bound`.
pub fn leads_to(endpoint: &Endpoint, bound: &Endpoint) -> bool {
    let (Endpoint::Tcp { host, .. }, Endpoint::Tcp { host: bound_host, .. }) = (endpoint, bound)
    else {
        return endpoint == bound;
    };
    let every = bound_host == "*"
        || bound_host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let here = address(host).is_some_and(|address| address.is_loopback()) || is_localhost(host);
    is_same_port(endpoint, bound) && (is_same_host(host, bound_host) || every && here)
}

fn is_same_host(one: &str, other: &str) -> bool {
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other,
        (Some(address), None) => is_localhost(other) && is_first_loopback(address),
        (None, Some(address)) => is_localhost(one) && is_first_loopback(address),
        (None, None) => name(one).eq_ignore_ascii_case(name(other)),
    }
}

/// The address that a host is, if it is no name.
fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().map(reached)
}

/// The address that is reached by connecting to `address`: of "any" the loopback one.
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// A name without the dot that says that it is complete.
fn name(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Every machine's name for itself (RFC 6761 section 6.3).
fn is_localhost(host: &str) -> bool {
    name(host).eq_ignore_ascii_case("localhost")
}

fn is_first_loopback(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::LOCALHOST) || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(one: &str, other: &str) -> [Endpoint; 2] {
        [one, other].map(|text| text.parse().unwrap())
    }

    #[test]
    fn one_peer_in_two_ways_to_write_it() {
        for (one, other, same) in [
            ("tcp://a:1", "tcp://a:1", true),
            ("tcp://a:1", "tcp://A.:1", true),
            ("tcp://a:1", "tcp://a:2", false),
            ("tcp://a:1", "tcp://b:1", false),
            ("tcp://a:1", "tcp://127.0.0.1:1", false),
            ("tcp://localhost:1", "tcp://127.0.0.1:1", true),
            ("tcp://localhost:1", "tcp://[::1]:1", true),
            ("tcp://localhost:1", "tcp://127.0.0.2:1", false),
            ("tcp://0.0.0.0:1", "tcp://127.0.0.1:1", true),
            ("tcp://[::1]:1", "tcp://[0:0::1]:1", true),
            ("tcp://[::ffff:10.0.0.1]:1", "tcp://10.0.0.1:1", true),
            ("ipc:///a/b", "ipc:///a//./b", true),
            ("ipc:///a", "ipc:///b", false),
            ("ipc:///a", "tcp://a:1", false),
        ] {
            let [first, second] = endpoints(one, other);
            assert_eq!(is_same_peer(&first, &second), same, "{one} {other}");
            assert_eq!(is_same_peer(&second, &first), same, "{other} {one}");
        }
    }

    #[test]
    fn what_leads_back_to_the_relay() {
        for (connect, bound, leads) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true),
            ("tcp://localhost:1", "tcp://127.0.0.1:1", true),
            ("tcp://localhost:1", "tcp://*:1", true),
            ("tcp://127.0.0.1:1", "tcp://[::]:1", true),
            ("tcp://relay:1", "tcp://relay:1", true),
            ("tcp://10.0.0.1:1", "tcp://*:1", false),
            ("tcp://other:1", "tcp://*:1", false),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:*", false),
            ("ipc:///a", "ipc:///a", true),
        ] {
            let [connect, bound] = endpoints(connect, bound);
            assert_eq!(leads_to(&connect, &bound), leads, "{connect} {bound}");
        }
    }

    #[test]
    fn names_are_looked_up_where_they_may_be_one_peer() {
        let connects = |texts: &[&str]| {
            let place = |(line, text): (usize, &&str)| Connect {
                key: "route.to.zmq.connect".to_owned(),
                endpoint: text.parse().unwrap(),
                line: line + 1,
                column: 1,
            };
            vec![texts.iter().enumerate().map(place).collect::<Vec<_>>()]
        };
        let resolve = |name: &str| -> Vec<IpAddr> {
            match name {
                "one" => vec!["10.0.0.1".parse().unwrap()],
                "both" => vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
                "unknown" => Vec::new(),
                other => panic!("{other} is looked up"),
            }
        };
        for (texts, lines) in [
            (&["tcp://one:1", "tcp://10.0.0.1:1"][..], &[2][..]),
            (&["tcp://10.0.0.2:1", "ipc:///a", "tcp://both:1", "tcp://one:1"], &[3, 4]),
            (&["tcp://unknown:1", "tcp://10.0.0.1:1"], &[]),
            (&["tcp://one:1", "tcp://unknown:1"], &[]),
            (&["tcp://other:1", "tcp://10.0.0.1:2"], &[]),
        ] {
            let mistakes = by_name(&connects(texts), &resolve);
            let found: Vec<_> = mistakes.iter().map(|mistake| mistake.line).collect();
            assert_eq!(found, lines, "{texts:?}: {mistakes:?}");
        }
        let separate = [connects(&["tcp://one:1"]), connects(&["tcp://10.0.0.1:1"])].concat();
        assert_eq!(
            by_name(&separate, &|name| panic!("{name}")),
            [],
            "routes have topics of their own"
        );
    }
}
