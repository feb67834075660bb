//! Peers that want something else: connected, subscribed, and never written to.

use std::thread::sleep;
use std::time::Duration;

use super::{sub, usage};
use crate::Outcome;

/// `idle-peers ADDRESS COUNT`: each subscribes to a prefix of its own that no topic has, then all
/// are still.
///
/// # Errors
/// The arguments or the connections.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, count] = arguments else { return Err(usage("idle-peers ADDRESS COUNT")) };
    hold(count, |prefix| sub::connect(address, prefix))
}

/// Connects so many peers, each with a prefix of its own, and keeps them.
///
/// # Errors
/// The count or the connections.
pub fn hold<T>(count: &str, connect: impl Fn(&[u8]) -> Outcome<T>) -> Outcome<()> {
    let peers = (0..count.parse::<u32>()?)
        .map(|number| connect(format!("nobody-publishes-{number:05}").as_bytes()))
        .collect::<Outcome<Vec<_>>>()?;
    println!("R");
    loop {
        sleep(Duration::from_secs(3600));
        if peers.is_empty() {
            return Ok(());
        }
    }
}
