//! The doorkeeper: the rate at which a visitor may send commands, and the time of the notice that
//! its lease ends. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Time between two commands of one connection.
const PAUSE: Duration = Duration::from_secs(1);

/// The state of each visitor, by the number of its connection.
#[derive(Debug, Default)]
pub struct Doorkeeper {
    visitors: HashMap<u64, Visitor>,
}

#[derive(Debug)]
struct Visitor {
    /// The time from which on it may speak again.
    next: Instant,
    /// True if it is not read until then.
    is_held: bool,
    notice: Option<Pending>,
}

/// A notice that is to come.
#[derive(Clone, Copy, Debug)]
struct Pending {
    at: Instant,
    /// The end of the lease, in s since the epoch, that it is about.
    until: i64,
}

impl Doorkeeper {
    /// Takes note of a command. Returns the time that the visitor has to wait if it may not be done
    /// now: meanwhile it is not to be read.
    ///
    /// # Errors
    /// That time.
    pub fn handle_command(&mut self, id: u64, now: Instant) -> Result<(), Duration> {
        let new = Visitor { next: now, is_held: false, notice: None };
        let visitor = self.visitors.entry(id).or_insert(new);
        let wait = visitor.next.saturating_duration_since(now);
        if !wait.is_zero() && !zafka_planted::is("the-door-is-never-busy") {
            visitor.is_held = true;
            return Err(wait);
        }
        visitor.next = now + PAUSE;
        Ok(())
    }

    /// Takes note of a lease that lasts for `left`, in whole seconds of which the first has begun:
    /// its notice is due once four fifths of that are over.
    pub fn handle_enrolled(&mut self, id: u64, until: i64, left: Duration, now: Instant) {
        if let Some(visitor) = self.visitors.get_mut(&id) {
            let left = left.saturating_sub(Duration::from_secs(1));
            visitor.notice = Some(Pending { at: now + left.mul_f64(0.8), until });
        }
    }

    /// Returns the visitors that may be read again.
    pub fn poll_released(&mut self, now: Instant) -> Vec<u64> {
        let due = self.visitors.iter_mut().filter(|(_, one)| one.is_held && now >= one.next);
        due.map(|(id, visitor)| {
            visitor.is_held = false;
            *id
        })
        .collect()
    }

    /// Returns the visitors to be notified of the end of a lease, each once, with that end.
    pub fn poll_notices(&mut self, now: Instant) -> Vec<(u64, i64)> {
        let due = |notice: &mut Pending| now >= notice.at;
        let visitors = self.visitors.iter_mut();
        visitors
            .filter_map(|(id, visitor)| Some((*id, visitor.notice.take_if(due)?.until)))
            .collect()
    }

    /// Forgets visitors that are gone.
    pub fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        self.visitors.retain(|id, _| is_there(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn one_command_a_second_for_each_visitor() {
        let (mut door, start) = (Doorkeeper::default(), start());
        for (after, visitor, outcome) in [
            (0, 1, Ok(())),
            (0, 2, Ok(())),
            (1, 1, Err(ms(999))),
            (999, 1, Err(ms(1))),
            (1000, 1, Ok(())),
            (1500, 1, Err(ms(500))),
            (9000, 1, Ok(())),
        ] {
            let told = door.handle_command(visitor, start + ms(after));
            assert_eq!(told, outcome, "{visitor} after {after} ms");
        }
        assert!(door.poll_released(start + ms(9000)).is_empty(), "it has just spoken");
        assert_eq!(door.poll_released(start + ms(10_000)), [1]);
        assert!(door.poll_released(start + ms(10_000)).is_empty(), "it is told once");
    }

    #[test]
    fn the_end_of_a_lease_is_told_once() {
        let (mut door, start) = (Doorkeeper::default(), start());
        door.handle_enrolled(1, 100, ms(2000), start);
        assert_eq!(door.poll_notices(start + ms(1000)), [], "it is not there");
        door.handle_command(1, start).unwrap();
        door.handle_enrolled(1, 100, ms(2000), start);
        assert_eq!(door.poll_notices(start + ms(799)), []);
        // Renewed: the later end counts.
        door.handle_enrolled(1, 200, ms(2000), start + ms(500));
        assert_eq!(door.poll_notices(start + ms(1299)), []);
        assert_eq!(door.poll_notices(start + ms(1300)), [(1, 200)]);
        assert_eq!(door.poll_notices(start + ms(5000)), []);
        door.handle_enrolled(1, 300, ms(10), start);
        door.retain(|_| false);
        assert_eq!(door.poll_notices(start + ms(5000)), []);
    }
}
