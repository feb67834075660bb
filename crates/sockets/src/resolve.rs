//! Addresses of hosts and of interfaces.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// Time that the system's resolver has. It asks several servers in turn, some seconds each.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);

/// The addresses of a host, in the order in which the system prefers them; never empty.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await;
    let found = found.unwrap_or_else(|_| {
        let text =
            format!("the name {host:?} was not resolved within {} s", RESOLVE_TIMEOUT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    });
    let addresses: Vec<_> = found?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("the name {host:?} has no address"),
        ));
    }
    Ok(addresses)
}

/// The addresses of the interface with this name; none if there is no such interface.
pub(crate) fn interface(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let interfaces = if_addrs::get_if_addrs()?.into_iter();
    let named = interfaces.filter(|interface| interface.name == name);
    Ok(named
        .map(|interface| match interface.ip() {
            // Such an address is one only together with its interface.
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                SocketAddrV6::new(address, port, 0, interface.index.unwrap_or(0)).into()
            }
            address => SocketAddr::new(address, port),
        })
        .collect())
}
