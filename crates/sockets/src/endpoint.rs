//! Endpoints as ZeroMQ writes them: `tcp://HOST:PORT` and `ipc://PATH`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The place at which a socket binds or connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`. To bind, the host is an address, the name of an interface, another name,
    /// or `*` for every IPv4 address, as with libzmq; `[::]` is every address of both kinds.
    Tcp {
        /// Host without brackets; `*` for every IPv4 address.
        host: String,
        /// Port to bind or connect to.
        port: Port,
    },
    /// `ipc://PATH`: a Unix domain socket.
    Ipc(PathBuf),
}

/// A TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// A port number (never 0).
    Number(u16),
    /// `*` or `0`: whichever is free; only to bind.
    Any,
}

/// The reason why a text is not an endpoint. The text itself is not in it: there may be a password
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; allowed: tcp://HOST:PORT, tcp://*:PORT, tcp://HOST:* (to bind), ipc:///PATH")]
pub struct EndpointError {
    /// The fault in it.
    pub why: &'static str,
}

impl Endpoint {
    /// The endpoint with its path, if that is relative, starting at `directory`.
    ///
    /// # Errors
    /// The path is too long then.
    pub fn in_directory(self, directory: &Path) -> Result<Self, EndpointError> {
        match self {
            Self::Ipc(path) => ipc(directory.join(path)).map_err(|why| EndpointError { why }),
            other => Ok(other),
        }
    }

    /// Returns true if the endpoint names one place to connect to: no wildcard host, no wildcard
    /// port.
    pub fn can_connect(&self) -> bool {
        match self {
            Self::Tcp { host, port } => host != "*" && *port != Port::Any,
            Self::Ipc(_) => true,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let fail = |why| EndpointError { why };
        let Some((transport, address)) = text.split_once("://") else {
            return Err(fail("no transport"));
        };
        match transport {
            "tcp" if address.contains(';') => {
                Err(fail("a source address (SOURCE;DESTINATION) cannot be chosen: the system does"))
            }
            "tcp" if address.contains('@') => Err(fail("credentials do not belong in an endpoint")),
            "tcp" => {
                let (host, port) = address.rsplit_once(':').ok_or_else(|| fail("no port"))?;
                let host = match host.strip_prefix('[') {
                    Some(rest) => rest.strip_suffix(']').ok_or_else(|| fail("'[' without ']'"))?,
                    None if host.contains(':') => {
                        return Err(fail("an IPv6 address goes in brackets"));
                    }
                    None => host,
                };
                if host.is_empty() {
                    return Err(fail("no host"));
                }
                let port = match port {
                    "*" | "0" => Port::Any,
                    digits => match digits.parse() {
                        Ok(number) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                            Port::Number(number)
                        }
                        _ => return Err(fail("the port is not a number from 1 to 65535, or '*'")),
                    },
                };
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            "ipc" if address.is_empty() => Err(fail("no path")),
            "ipc" if address.starts_with('@') || address == "*" => {
                Err(fail("abstract names and wildcards are not served"))
            }
            "ipc" => ipc(PathBuf::from(address)).map_err(fail),
            _ => Err(fail("this transport is not served")),
        }
    }
}

/// The endpoint at a path, if a Unix socket's address has room for that.
fn ipc(path: PathBuf) -> Result<Endpoint, &'static str> {
    if path.as_os_str().len() > 107 {
        return Err("a Unix socket's path is at most 107 bytes");
    }
    Ok(Endpoint::Ipc(path))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => {
                if host.contains(':') {
                    write!(f, "tcp://[{host}]:{port}")
                } else {
                    write!(f, "tcp://{host}:{port}")
                }
            }
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in [
            "tcp://127.0.0.1:5556",
            "tcp://*:5556",
            "tcp://[::1]:9",
            "tcp://host.example:*",
            "ipc:///tmp/a",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://h:0".parse::<Endpoint>().unwrap().to_string(), "tcp://h:*");
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("127.0.0.1:5556", "no transport"),
            ("tcp://127.0.0.1", "no port"),
            ("tcp://:5556", "no host"),
            ("tcp://::1:5556", "brackets"),
            ("tcp://[::1:5556", "']'"),
            ("tcp://h:70000", "65535"),
            ("tcp://h:+1", "65535"),
            ("tcp://192.0.2.1:0;192.0.2.2:5556", "SOURCE;DESTINATION"),
            ("tcp://eth0:0;192.0.2.2:5556", "SOURCE;DESTINATION"),
            ("tcp://id:s3cret@h:1", "credentials do not belong"),
            ("pgm://h:1", "not served"),
            ("ipc://", "no path"),
            ("ipc://@abstract", "abstract names"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
