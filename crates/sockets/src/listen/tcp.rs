//! TCP endpoints: which address a host stands for, and listening there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::BACKLOG;
use crate::Port;
use crate::resolve::{interface, resolve};

/// Listens on the first address of `host` that this machine has: an address, `*` for every IPv4
/// address, the name of an interface, or a name that is looked up.
pub(super) async fn bind(host: &str, port: Port) -> io::Result<TcpListener> {
    let port = match port {
        Port::Number(number) => number,
        Port::Any => 0,
    };
    let addresses = if host == "*" {
        vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]
    } else {
        let mut addresses = match interface(host, port)? {
            addresses if addresses.is_empty() => resolve(host, port).await?,
            addresses => addresses,
        };
        // As libzmq does, a name with addresses of both kinds is served on its IPv4 address.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses
    };
    first_here(&addresses, listen).map_err(|(address, error)| match address {
        Some(address) if address.ip().to_string() != host && host != "*" => {
            io::Error::new(error.kind(), format!("{address}: {error}"))
        }
        _ => error,
    })
}

/// Listens on the first address that this machine has. Every other error is final: if that address
/// is taken, the next one of the name would be served instead, and no peer would look for it there.
fn first_here<T>(
    addresses: &[SocketAddr],
    mut listen: impl FnMut(SocketAddr) -> io::Result<T>,
) -> Result<T, (Option<SocketAddr>, io::Error)> {
    let mut last = (None, io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    for &address in addresses {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if is_elsewhere(&error) => last = (Some(address), error),
            Err(error) => return Err((Some(address), error)),
        }
    }
    Err(last)
}

/// Returns true if the address is no address of this machine, or of a family that it does not have.
fn is_elsewhere(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        // `[::]` takes IPv4 too, regardless of the system's default.
        SockRef::from(&socket).set_only_v6(false)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(kind: io::ErrorKind) -> io::Result<&'static str> {
        Err(kind.into())
    }

    #[test]
    fn only_an_address_that_is_not_ours_gives_way_to_the_next() {
        let [one, other] =
            ["127.0.0.1:1", "[::1]:1"].map(|text| text.parse::<SocketAddr>().unwrap());
        let family = || Err(io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error()));
        type Case = (fn() -> io::Result<&'static str>, Option<&'static str>);
        let cases: [Case; 5] = [
            (|| Ok("one"), Some("one")),
            (|| refuse(io::ErrorKind::AddrNotAvailable), Some("other")),
            (family, Some("other")),
            (|| refuse(io::ErrorKind::AddrInUse), None),
            (|| refuse(io::ErrorKind::PermissionDenied), None),
        ];
        for (index, (first, expected)) in cases.iter().enumerate() {
            let listen = |address| if address == one { first() } else { Ok("other") };
            let bound = first_here(&[one, other], listen);
            assert_eq!(bound.as_ref().ok().copied(), *expected, "case {index}: {bound:?}");
            assert!(bound.is_ok() || bound.is_err_and(|(at, _)| at == Some(one)), "case {index}");
        }
    }

    #[tokio::test]
    async fn every_interface_has_a_name() {
        // The loopback interface is there on every system, under one of these names.
        let names = ["lo", "lo0"];
        let name =
            names.iter().find(|name| interface(name, 0).is_ok_and(|found| !found.is_empty()));
        let listener = bind(name.unwrap(), Port::Any).await.unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
    }
}
