//! Network namespaces: machines that can vanish without a word.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::raw::RawPeer;

/// A network namespace with one link to ours; removed when it is dropped.
pub struct Machine {
    name: String,
    link: String,
    ours: Ipv4Addr,
}

impl Machine {
    /// A machine whose addresses begin with 10 and end with `number` and one more octet; unique
    /// within this process.
    pub fn start(number: u8) -> Self {
        let process = std::process::id();
        let name = format!("zafka-{process}-{number}");
        let link = format!("zk{process}-{number}");
        let network = |host| Ipv4Addr::new(10, 128 + (process % 127) as u8, number, host);
        let (ours, theirs) = (network(1), network(2));
        let machine = Self { name: name.clone(), link: link.clone(), ours };
        ip(&["netns", "add", &name]);
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "link0", "netns", &name]);
        ip(&["address", "add", &format!("{ours}/24"), "dev", &link]);
        ip(&["link", "set", &link, "up"]);
        ip(&["-n", &name, "address", "add", &format!("{theirs}/24"), "dev", "link0"]);
        ip(&["-n", &name, "link", "set", "link0", "up"]);
        machine
    }

    /// Connects from that machine to a port of ours, with a small receive buffer.
    pub fn connect(&self, port: u16) -> RawPeer {
        let path = format!("/run/netns/{}", self.name);
        let address = std::net::SocketAddr::from((self.ours, port));
        // A thread of its own: it is in that namespace from then on.
        let connecting = std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&address.into()).unwrap();
            socket
        });
        let stream = std::net::TcpStream::from(connecting.join().unwrap());
        stream.set_nonblocking(true).unwrap();
        RawPeer(TcpStream::from_std(stream).unwrap())
    }

    /// Nothing goes to it or comes from it any more.
    pub fn vanish(&self) {
        ip(&["-n", &self.name, "link", "set", "link0", "down"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // At once, also while sockets in the namespace keep it.
        let _ = Command::new("ip").args(["link", "delete", &self.link]).status();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2");
    assert!(status.success(), "ip {arguments:?}: {status}");
}
