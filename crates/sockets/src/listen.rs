//! Listening on endpoints.

mod ipc;
mod tcp;

use std::io;

use tokio::net::TcpListener;

use crate::stream::Stream;
use crate::{Endpoint, Port};
pub use ipc::IpcListener;

/// Pending connections that the kernel keeps for a listener; its own limit (somaxconn) counts if it
/// is lower.
const BACKLOG: u32 = 4096;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Ipc(IpcListener),
}

impl Listener {
    /// Binds an endpoint. A wildcard port becomes whichever is free; a socket file gets `ipc_mode`,
    /// or what the process's umask leaves.
    ///
    /// # Errors
    /// The system's, such as `AddrInUse`; also if a path is served by a live listener or is not a
    /// socket.
    pub(crate) async fn bind(endpoint: &Endpoint, ipc_mode: Option<u32>) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => Ok(Self::Tcp(tcp::bind(host, *port).await?)),
            Endpoint::Ipc(path) => Ok(Self::Ipc(IpcListener::bind(path, ipc_mode).await?)),
        }
    }

    /// The endpoint with its real port.
    pub(crate) fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(Endpoint::Tcp {
                    host: address.ip().to_string(),
                    port: Port::Number(address.port()),
                })
            }
            Self::Ipc(listener) => Ok(Endpoint::Ipc(listener.path().to_owned())),
        }
    }

    /// The next connection and its peer's address.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::tcp(stream)?, address.to_string()))
            }
            Self::Ipc(listener) => {
                let stream = listener.accept().await?;
                Ok((Stream::Ipc(stream), listener.path().display().to_string()))
            }
        }
    }
}
