//! Free ports that stay ours: from below the range the kernel gives to outgoing connections,
//! each held by a locked file until this process ends, so that two test binaries never share one.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::fs::{FlockOperation, flock};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on 127.0.0.1 that is free, and that no other test will be given.
pub fn free_port() -> u16 {
    let directory = crate::paths::home().join("ports");
    fs::create_dir_all(&directory).unwrap();
    let spread = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port =
            FIRST + (u32::from(spread) * 37 + u32::from(step)).rem_euclid(u32::from(COUNT)) as u16;
        let file = File::create(directory.join(port.to_string())).unwrap();
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            HELD.lock().unwrap().push(file);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
