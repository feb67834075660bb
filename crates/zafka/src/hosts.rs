//! The names under which the admin server may be asked.
//!
//! A page in a browser on this machine can reach a loopback address: by a name of its own that
//! resolves to that address (DNS rebinding), it may even read the answers. Such a request names
//! that page's host, and so does its origin; it is refused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// A host as requests name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, in lower case, without a dot at its end.
    Name(String),
}

impl Host {
    /// Parses a name or an address, an IPv6 one in brackets or without; no port.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            // Brackets are for IPv6 alone.
            return (bare.is_none() || ip.is_ipv6()).then(|| Self::Ip(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        let is_name = !name.is_empty() && name.len() <= 253 && name.bytes().all(fits);
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Parses `HOST` or `HOST:PORT`, with any port.
    fn of_authority(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            // A colon within brackets is the address's own.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (text, ""),
        };
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let is_port = port.bytes().all(|c| c.is_ascii_digit());
        if is_port && !is_bare_ipv6 { Self::parse(host) } else { None }
    }
}

/// The hosts that are this server.
#[derive(Clone, Debug)]
pub struct Hosts {
    bind: IpAddr,
    others: Vec<Host>,
}

impl Hosts {
    /// The loopback's names, the bound address, and `others`. A server that is bound to all
    /// addresses is asked by any address: one cannot be made to stand for another.
    pub fn new(bind: IpAddr, others: Vec<Host>) -> Self {
        Self { bind: bind.to_canonical(), others }
    }

    fn has(&self, host: &Host) -> bool {
        let is_own = match host {
            Host::Ip(ip) => ip.is_loopback() || self.bind.is_unspecified() || *ip == self.bind,
            Host::Name(name) => name == "localhost",
        };
        is_own || self.others.contains(host)
    }

    /// Returns the reason why a request is refused, if it is.
    fn refusal(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<(StatusCode, String)> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let named = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Some(host.to_str().unwrap_or_default()),
            // HTTP/1.0 has no such header, and no browser speaks it.
            (None, _) if version < Version::HTTP_11 => None,
            _ => return Some((StatusCode::BAD_REQUEST, "one Host header is needed".to_owned())),
        };
        let authority = uri.authority().map(|authority| authority.as_str());
        for named in named.into_iter().chain(authority) {
            if !Host::of_authority(named).is_some_and(|host| self.has(&host)) {
                let named = named.escape_default();
                let text = format!("host \"{named}\" is not this server; see `hosts` of [admin]");
                return Some((StatusCode::MISDIRECTED_REQUEST, text));
            }
        }
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let host = origin.split_once("://").and_then(|(_, host)| Host::of_authority(host));
            if !host.is_some_and(|host| self.has(&host)) {
                let text = format!("origin \"{}\" is refused", origin.escape_default());
                return Some((StatusCode::FORBIDDEN, text));
            }
        }
        None
    }
}

/// Lets requests for this server through.
pub async fn check(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    match hosts.refusal(request.version(), request.uri(), request.headers()) {
        None => next.run(request).await,
        Some((code, text)) => {
            tracing::debug!(%code, "admin request refused: {text}");
            (code, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], text + "\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// The code of a refusal, or 200.
    fn code(bind: &str, version: Version, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let others = ["Relay.Example.", "10.0.0.9"].map(|host| Host::parse(host).unwrap());
        let hosts = Hosts::new(bind.parse().unwrap(), others.to_vec());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let refusal = hosts.refusal(version, &uri.parse().unwrap(), &map);
        refusal.map_or(200, |(code, _)| code.as_u16())
    }

    #[test]
    fn hosts_by_where_the_server_is_bound() {
        for (host, loopback, private, any) in [
            ("localhost", 200, 200, 200),
            ("LOCALHOST.:9644", 200, 200, 200),
            ("127.0.0.1", 200, 200, 200),
            ("127.9.9.9:1", 200, 200, 200),
            ("[::1]:9644", 200, 200, 200),
            ("[::1]", 200, 200, 200),
            ("[::ffff:127.0.0.1]:1", 200, 200, 200),
            ("relay.example:9644", 200, 200, 200),
            ("10.0.0.9", 200, 200, 200),
            ("10.0.0.5:9644", 421, 200, 200),
            ("10.0.0.6", 421, 421, 200),
            ("[2001:db8::1]", 421, 421, 200),
            ("evil.example", 421, 421, 421),
            ("localhost.evil.example", 421, 421, 421),
            ("127.0.0.1.evil.example", 421, 421, 421),
            ("evil.example:9644@127.0.0.1", 421, 421, 421),
            ("localhost:x", 421, 421, 421),
            ("::1", 421, 421, 421),
            ("[127.0.0.1]", 421, 421, 421),
            ("", 421, 421, 421),
            ("é", 421, 421, 421),
        ] {
            let code = |bind| code(bind, Version::HTTP_11, "/status", &[("host", host)]);
            let found = (code("127.0.0.1"), code("10.0.0.5"), code("0.0.0.0"));
            assert_eq!(found, (loopback, private, any), "{host}");
        }
    }

    #[test]
    fn requests_by_all_that_names_a_host() {
        let (local, evil) = (("host", "localhost"), ("host", "evil.example"));
        for (version, uri, headers, expected) in [
            (Version::HTTP_11, "/status", &[][..], 400),
            (Version::HTTP_10, "/status", &[], 200),
            (Version::HTTP_10, "/status", &[evil], 421),
            (Version::HTTP_11, "/status", &[local, local], 400),
            (Version::HTTP_11, "http://evil.example/status", &[local], 421),
            (Version::HTTP_11, "http://localhost:9644/status", &[local], 200),
            (Version::HTTP_11, "/status", &[local, ("origin", "http://localhost:3000")], 200),
            (Version::HTTP_11, "/status", &[local, ("origin", "https://evil.example")], 403),
            (Version::HTTP_11, "/status", &[local, ("origin", "null")], 403),
        ] {
            assert_eq!(code("127.0.0.1", version, uri, headers), expected, "{uri} {headers:?}");
        }
    }
}
