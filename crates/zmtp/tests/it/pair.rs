//! Two connections joined under a virtual clock.

use std::time::{Duration, Instant};

use bytes::Bytes;
use zafka_zmtp::{Config, Connection, Error, Event, Heartbeat, Mechanism, Role, SocketType};

/// A configuration with roomy limits.
pub fn config(socket_type: SocketType) -> Config {
    Config {
        socket_type,
        role: Role::Server,
        mechanism: Mechanism::Null,
        identity: Bytes::new(),
        max_frame: 1 << 20,
        max_message: 4 << 20,
        heartbeat: None,
    }
}

/// Heartbeats in milliseconds.
pub fn heartbeat(interval: u64, timeout: u64) -> Option<Heartbeat> {
    Some(Heartbeat {
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
    })
}

/// Takes the events that wait.
pub fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// Takes the output that waits.
pub fn output(connection: &mut Connection) -> Vec<u8> {
    std::iter::from_fn(|| connection.poll_output()).flatten().collect()
}

/// The same, written at once.
pub fn written(connection: &mut Connection, now: Instant) -> Vec<u8> {
    let output = output(connection);
    connection.output_written(now);
    output
}

/// Two sides and the clock they share.
pub struct Pair {
    pub now: Instant,
    pub left: Connection,
    pub right: Connection,
}

impl Pair {
    pub fn new(left: Config, right: Config) -> Self {
        let now = Instant::now();
        Self { now, left: Connection::new(left, now), right: Connection::new(right, now) }
    }

    /// Carries output back and forth until both sides are silent.
    pub fn exchange(&mut self) -> Result<(), Error> {
        loop {
            let to_right = output(&mut self.left);
            let to_left = output(&mut self.right);
            if to_right.is_empty() && to_left.is_empty() {
                return Ok(());
            }
            self.right.handle_input(&to_right, self.now)?;
            self.left.handle_input(&to_left, self.now)?;
        }
    }

    /// A pair that is ready, its `Ready` events taken.
    pub fn ready(left: Config, right: Config) -> Self {
        let mut pair = Self::new(left, right);
        pair.exchange().unwrap();
        assert!(matches!(events(&mut pair.left)[..], [Event::Ready(_)]));
        assert!(matches!(events(&mut pair.right)[..], [Event::Ready(_)]));
        pair
    }
}
