//! Endpoints that cannot be bound at the same time.

use std::net::{IpAddr, Ipv4Addr};

use zafka_sockets::{Endpoint, Port};

use super::AdminConfig;
use super::reader::Reader;
use super::route::ReadRoute;

/// Reports what the routes, and the admin server, bind for the second time.
pub fn compare(reader: &Reader<'_>, routes: &[ReadRoute], admin: Option<AdminConfig>) {
    let admin = admin.map(endpoint);
    let mut bound: Vec<&Endpoint> = Vec::new();
    let sockets = routes.iter().filter_map(|route| route.socket.as_ref());
    for (endpoint, span) in sockets.flat_map(|socket| &socket.binds) {
        let mistake = |found: String, allowed| reader.mistake(span, "route.to.zmq.bind", found, allowed);
        if bound.iter().any(|other| exclude(other, endpoint)) {
            mistake(format!("{endpoint} is bound twice"), "each endpoint once");
        }
        if admin.as_ref().is_some_and(|admin| exclude(admin, endpoint)) {
            mistake(format!("{endpoint} is bound by the admin server too"), "another port than `admin.bind`");
        }
        bound.push(endpoint);
    }
}

fn endpoint(admin: AdminConfig) -> Endpoint {
    let port = match admin.bind.port() {
        0 => Port::Any,
        number => Port::Number(number),
    };
    Endpoint::Tcp { host: admin.bind.ip().to_string(), port }
}

/// Whether two endpoints cannot both be bound; a wildcard port is another one each time.
fn exclude(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Tcp { host, port }, Endpoint::Tcp { host: other_host, port: other_port }) => {
            port == other_port && *port != Port::Any && share_an_address(host, other_host)
        }
        _ => one == other,
    }
}

/// Whether two hosts to bind have an address in common. Which one a name has is not asked.
fn share_an_address(one: &str, other: &str) -> bool {
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other || covers(one, other) || covers(other, one),
        (Some(address), None) | (None, Some(address)) => address.is_unspecified(),
        (None, None) => one == other,
    }
}

fn address(host: &str) -> Option<IpAddr> {
    if host == "*" { Some(Ipv4Addr::UNSPECIFIED.into()) } else { host.parse().ok() }
}

/// Whether `all` is every interface, the one with address `one` among them. That of IPv6 takes IPv4 too.
fn covers(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wildcards_and_names() {
        for (one, other, excluded) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", false),
            ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", false),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1", false),
            ("tcp://*:1", "tcp://127.0.0.1:1", true),
            ("tcp://*:1", "tcp://0.0.0.0:1", true),
            ("tcp://0.0.0.0:1", "tcp://127.0.0.1:1", true),
            ("tcp://*:1", "tcp://[::1]:1", false),
            ("tcp://[::]:1", "tcp://127.0.0.1:1", true),
            ("tcp://*:1", "tcp://name:1", true),
            ("tcp://127.0.0.1:1", "tcp://name:1", false),
            ("tcp://name:1", "tcp://name:1", true),
            ("ipc:///a", "ipc:///a", true),
            ("ipc:///a", "ipc:///b", false),
        ] {
            let [first, second] = [one, other].map(|text| text.parse::<Endpoint>().unwrap());
            assert_eq!(exclude(&first, &second), excluded, "{one} {other}");
            assert_eq!(exclude(&second, &first), excluded, "{other} {one}");
        }
    }
}
