//! Peers that take nothing and keep sending: each subscribes to everything and never reads, so that
//! it is stalled once the kernel's buffers are full, and then sends tiny frames.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::peer::connect_as_over_a_network;
use super::{sub, usage};
use crate::Outcome;

/// Frames a second, of all peers together however many they are.
const FRAMES_PER_SECOND: u32 = 200;
/// The most frames that are sent: a minute and a half.
const FRAMES: u32 = 90 * FRAMES_PER_SECOND;
/// A command without a meaning, the smallest thing that has to be read and passed over.
const FRAME: &[u8] = b"\x04\x02\x01X";
/// The end of a subscription to everything, as a message.
const CANCEL: &[u8] = b"\x00\x01\x00";
/// Subscriptions, of as many lengths, that no topic matches.
const PREFIXES: usize = 200;
/// Longest wait for the word to begin, and for a write.
const PATIENCE: Duration = Duration::from_secs(180);

/// `hostile-peers ADDRESS COUNT GO`: connects and says so, waits for the file GO, then begins and
/// says so again. Every second peer, from the first on, changes its subscription to some that
/// nothing matches; the others stay subscribed to everything. All send frames in turn.
///
/// # Errors
/// The arguments, or a connection: also one that the other side closes.
pub fn run(arguments: &[&str]) -> Outcome<()> {
    let [address, count, go] = arguments else {
        return Err(usage("hostile-peers ADDRESS COUNT GO"));
    };
    let address: SocketAddr = address.parse()?;
    let mut peers =
        (0..count.parse::<u32>()?).map(|_| stalled(address)).collect::<Outcome<Vec<_>>>()?;
    println!("R");
    let deadline = Instant::now() + PATIENCE;
    while !fs::exists(go)? {
        if Instant::now() >= deadline {
            return Err("nobody said when to begin".into());
        }
        sleep(Duration::from_millis(20));
    }
    let change = change()?;
    for peer in peers.iter_mut().step_by(2) {
        peer.write_all(&change)?;
    }
    println!("R");
    let start = Instant::now();
    for (number, index) in (0..FRAMES).zip((0..peers.len()).cycle()) {
        let due = start + Duration::from_secs(1) * number / FRAMES_PER_SECOND;
        sleep(due.saturating_duration_since(Instant::now()));
        if let Some(peer) = peers.get_mut(index) {
            peer.write_all(FRAME)?;
        }
    }
    Ok(())
}

/// A peer that has subscribed to everything.
fn stalled(address: SocketAddr) -> Outcome<TcpStream> {
    let mut stream = connect_as_over_a_network(address)?;
    sub::introduce(&mut stream, b"")?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Commands that turn a subscription to everything into many to nothing.
fn change() -> Outcome<Vec<u8>> {
    let mut change = CANCEL.to_vec();
    for length in 0..PREFIXES {
        change.extend(sub::subscription(format!("nobody{}", "-".repeat(length)).as_bytes())?);
    }
    Ok(change)
}
