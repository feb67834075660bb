//! Endpoints that cannot be bound at the same time.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use zafka_sockets::{Endpoint, Port};

use super::AdminConfig;
use super::reader::{Reader, Span};
use super::route::ReadRoute;

/// Reports what the door, the routes and the admin server bind for the second time.
pub fn compare(
    reader: &Reader<'_>,
    routes: &[ReadRoute],
    door: &[(Endpoint, Span)],
    admin: Option<&AdminConfig>,
) {
    let admin = admin.map(endpoint);
    let mut bound: Vec<&Endpoint> = Vec::new();
    let sockets = routes.iter().filter_map(|route| route.socket.as_ref());
    let binds = sockets
        .flat_map(|socket| socket.binds.iter().map(|bind| (format!("{}.bind", socket.path), bind)));
    let door = door.iter().map(|bind| ("identity.bind".to_owned(), bind));
    for (key, (endpoint, span)) in door.chain(binds) {
        let key = key.as_str();
        for other in &bound {
            match clash(other, endpoint) {
                Clash::Certain => {
                    let found = format!("{endpoint} is bound twice");
                    reader.mistake(span, key, found, "each endpoint once");
                    break;
                }
                Clash::Possible => reader.warn(span, key, possible(endpoint, &other.to_string())),
                Clash::None => {}
            }
        }
        match admin.as_ref().map_or(Clash::None, |admin| clash(admin, endpoint)) {
            Clash::Certain => {
                let found = format!("{endpoint} is bound by the admin server too");
                reader.mistake(span, key, found, "another port than `admin.bind`");
            }
            Clash::Possible => reader.warn(span, key, possible(endpoint, "admin.bind")),
            Clash::None => {}
        }
        bound.push(endpoint);
    }
}

fn possible(endpoint: &Endpoint, other: &str) -> String {
    format!(
        "{endpoint} and {other} have one port: if they stand for one address, only one can be bound"
    )
}

fn endpoint(admin: &AdminConfig) -> Endpoint {
    let port = match admin.bind.port() {
        0 => Port::Any,
        number => Port::Number(number),
    };
    Endpoint::Tcp { host: admin.bind.ip().to_string(), port }
}

/// The reason why two endpoints cannot both be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clash {
    None,
    /// A clash if a name has the other one's address; names are not resolved.
    Possible,
    Certain,
}

/// Compares two endpoints; a wildcard port is another one each time.
fn clash(one: &Endpoint, other: &Endpoint) -> Clash {
    match (one, other) {
        (Endpoint::Tcp { host, port }, Endpoint::Tcp { host: other_host, port: other_port }) => {
            if port == other_port && *port != Port::Any {
                hosts(host, other_host)
            } else {
                Clash::None
            }
        }
        (Endpoint::Ipc(path), Endpoint::Ipc(other)) if absolute(path) == absolute(other) => {
            Clash::Certain
        }
        _ => Clash::None,
    }
}

/// A path by its components alone, so that `./a` and `/current/directory/a` are one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn hosts(one: &str, other: &str) -> Clash {
    let certain = |certain| if certain { Clash::Certain } else { Clash::None };
    match (address(one), address(other)) {
        (Some(one), Some(other)) => {
            certain(one == other || covers(one, other) || covers(other, one))
        }
        (Some(address), None) | (None, Some(address)) if address.is_unspecified() => Clash::Certain,
        (None, None) if one.eq_ignore_ascii_case(other) => Clash::Certain,
        _ => Clash::Possible,
    }
}

/// The address that is bound for a host; `None` if that has to be looked up.
fn address(host: &str) -> Option<IpAddr> {
    match host {
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        // By RFC 6761, and served on its IPv4 address as every name is.
        _ if host.eq_ignore_ascii_case("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
        _ => host.parse().ok(),
    }
}

/// Returns true if `all` is every interface, the one with address `one` among them. That of IPv6
/// takes IPv4 too.
fn covers(all: IpAddr, one: IpAddr) -> bool {
    all.is_unspecified() && (all.is_ipv6() || one.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wildcards_and_names() {
        use Clash::{Certain, None, Possible};
        for (one, other, expected) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", Certain),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", None),
            ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", None),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1", None),
            ("tcp://*:1", "tcp://127.0.0.1:1", Certain),
            ("tcp://*:1", "tcp://0.0.0.0:1", Certain),
            ("tcp://0.0.0.0:1", "tcp://127.0.0.1:1", Certain),
            ("tcp://*:1", "tcp://[::1]:1", None),
            ("tcp://[::]:1", "tcp://127.0.0.1:1", Certain),
            ("tcp://*:1", "tcp://name:1", Certain),
            ("tcp://127.0.0.1:1", "tcp://localhost:1", Certain),
            ("tcp://[::1]:1", "tcp://localhost:1", None),
            ("tcp://LOCALHOST:1", "tcp://localhost:1", Certain),
            ("tcp://127.0.0.1:1", "tcp://name:1", Possible),
            ("tcp://localhost:1", "tcp://eth0:1", Possible),
            ("tcp://127.0.0.1:1", "tcp://name:2", None),
            ("tcp://name:1", "tcp://name:1", Certain),
            ("tcp://name:1", "tcp://name.example:1", Possible),
            ("ipc:///a", "ipc:///a", Certain),
            ("ipc:///a", "ipc:///b", None),
            ("ipc://a", "ipc://./a", Certain),
            ("ipc:///a", "tcp://name:1", None),
        ] {
            let [first, second] = [one, other].map(|text| text.parse::<Endpoint>().unwrap());
            assert_eq!(clash(&first, &second), expected, "{one} {other}");
            assert_eq!(clash(&second, &first), expected, "{other} {one}");
        }
    }
}
