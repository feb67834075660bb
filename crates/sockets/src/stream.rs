//! A connection's byte stream: TCP or a Unix domain socket.

mod tcp_info;

use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use crate::gate::Process;
pub(crate) use tcp_info::TcpSample;

/// Time for which a TCP connection is silent before the kernel probes its peer.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Ipc(UnixStream),
}

impl Stream {
    /// Takes a TCP connection: no Nagle delay, keepalive on.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive =
            TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self::Tcp(stream))
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Ipc(stream) => stream.readable().await,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Ipc(stream) => stream.writable().await,
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Ipc(stream) => stream.try_read(buffer),
        }
    }

    /// Reads up to so many bytes, and puts them behind those in `buffer`.
    pub(crate) fn try_read_into(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let mut buffer = buffer.limit(most);
        match self {
            Self::Tcp(stream) => stream.try_read_buf(&mut buffer),
            Self::Ipc(stream) => stream.try_read_buf(&mut buffer),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Ipc(stream) => stream.try_write_vectored(slices),
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Ipc(stream) => stream.as_raw_fd(),
        }
    }

    /// The owner of the process on the other side, as it was when that connected; known of `ipc`
    /// alone.
    pub(crate) fn process(&self) -> Option<Process> {
        match self {
            Self::Tcp(_) => None,
            Self::Ipc(stream) => {
                let owner = stream.peer_cred().ok()?;
                Some(Process { uid: owner.uid(), gid: owner.gid() })
            }
        }
    }

    /// The peer's address; none of one that is not TCP, or that is gone.
    pub(crate) fn peer_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Self::Ipc(_) => None,
        }
    }

    /// The kernel's account of the connection; none of one that is not TCP.
    pub(crate) fn tcp_sample(&self) -> Option<TcpSample> {
        match self {
            Self::Tcp(stream) => tcp_info::sample(stream.as_fd()).ok(),
            Self::Ipc(_) => None,
        }
    }

    /// Ends our direction; what the kernel holds is still delivered.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Ipc(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        }
    }
}
