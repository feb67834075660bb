//! Listening on endpoints.

use std::io;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host};

use crate::stream::Stream;
use crate::{Endpoint, Port};

/// Pending connections that the kernel keeps for a listener; where its own limit (somaxconn) is lower, that counts.
const BACKLOG: u32 = 4096;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Ipc(UnixListener, PathBuf),
}

impl Listener {
    /// Binds an endpoint. A wildcard port becomes whichever is free.
    ///
    /// # Errors
    /// The system's, such as `AddrInUse`; also where a path is served by a live listener or is not a socket.
    pub(crate) async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => Ok(Self::Tcp(bind_tcp(host, *port).await?)),
            Endpoint::Ipc(path) => {
                clear_stale_socket(path).await?;
                Ok(Self::Ipc(UnixListener::bind(path)?, path.clone()))
            }
        }
    }

    /// The endpoint with its real port.
    pub(crate) fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(Endpoint::Tcp { host: address.ip().to_string(), port: Port::Number(address.port()) })
            }
            Self::Ipc(_, path) => Ok(Endpoint::Ipc(path.clone())),
        }
    }

    /// The next connection and its peer's address.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::tcp(stream)?, address.to_string()))
            }
            Self::Ipc(listener, path) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Ipc(stream), path.display().to_string()))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Ipc(_, path) = self {
            // Nothing to do where it is gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn bind_tcp(host: &str, port: Port) -> io::Result<TcpListener> {
    let port = match port {
        Port::Number(number) => number,
        Port::Any => 0,
    };
    let host = if host == "*" { "0.0.0.0" } else { host };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    // As libzmq does, a name with addresses of both kinds is served on its IPv4 address.
    let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    addresses.sort_by_key(|address| address.is_ipv6());
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Removes a socket file that nobody listens on any more; anything else at that path stays.
async fn clear_stale_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"))
        }
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
        },
    }
}
