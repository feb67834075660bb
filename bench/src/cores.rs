//! The time of the machine's cores while a relay runs: of the relay, of its neighbors, of nobody.

use std::fs;

use rustix::param::clock_ticks_per_second;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::figure::Figure;

/// Time of the cores for a record beside that of the relay, in ns.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Neighbors<T> {
    /// The time of the senders.
    pub senders: T,
    /// The time of the broker.
    pub broker: T,
    /// The time of everything else: the kernel's own threads, which write to the disk, and this
    /// program.
    pub others: T,
    /// The time that nobody had: something was waited for.
    pub idle: T,
}

/// Time so far, in ns.
#[derive(Clone, Copy, Debug)]
pub struct CoreTimes {
    pub relay: u64,
    pub senders: u64,
    pub broker: u64,
    machine: MachineTime,
}

/// The same of all cores together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MachineTime {
    busy: u64,
    idle: u64,
}

impl CoreTimes {
    /// The machine's time now, beside that of these processes.
    ///
    /// # Errors
    /// /proc/stat cannot be read.
    pub fn now(relay: u64, senders: u64, broker: u64) -> Outcome<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let machine = machine_ticks(&stat).ok_or("/proc/stat is not as expected")?;
        let [busy, idle] = [machine.busy, machine.idle].map(ns);
        Ok(Self { relay, senders, broker, machine: MachineTime { busy, idle } })
    }

    /// Returns for each of the records since `first` the relay's time, and that of the others.
    pub fn since(&self, first: &Self, records: f64) -> (f64, Neighbors<f64>) {
        let of = |now: u64, then: u64| now.saturating_sub(then);
        let relay = of(self.relay, first.relay);
        let senders = of(self.senders, first.senders);
        let broker = of(self.broker, first.broker);
        let busy = of(self.machine.busy, first.machine.busy);
        let idle = of(self.machine.idle, first.machine.idle);
        let others = busy.saturating_sub(relay + senders + broker);
        let [senders, broker, others, idle] =
            [senders, broker, others, idle].map(|ns| ns as f64 / records);
        (relay as f64 / records, Neighbors { senders, broker, others, idle })
    }
}

impl Neighbors<Figure> {
    /// Returns the figures of several runs.
    pub fn of(runs: &[Neighbors<f64>]) -> Option<Self> {
        let figure = |of: fn(&Neighbors<f64>) -> f64| Figure::of(runs.iter().map(of));
        Some(Self {
            senders: figure(|run| run.senders)?,
            broker: figure(|run| run.broker)?,
            others: figure(|run| run.others)?,
            idle: figure(|run| run.idle)?,
        })
    }
}

/// User and system time of a process so far, in ns.
///
/// # Errors
/// The process has ended.
pub fn process_ns(pid: u32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = process_ticks(&text).ok_or("/proc/PID/stat is not as expected")?;
    Ok(ns(ticks))
}

fn ns(ticks: u64) -> u64 {
    ticks * 1_000_000_000 / clock_ticks_per_second()
}

/// utime and stime of /proc/PID/stat (proc(5): fields 14 and 15; the name before them may hold
/// anything).
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut number = || fields.next()?.parse::<u64>().ok();
    Some(number()? + number()?)
}

/// The first line of /proc/stat (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal.
/// What a host takes away counts as busy; the guests that follow are in user already.
fn machine_ticks(stat: &str) -> Option<MachineTime> {
    let rest = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut fields = rest.split_whitespace().map(|field| field.parse::<u64>().ok());
    let mut number = || fields.next()?;
    let (user, nice, system, idle, wait) = (number()?, number()?, number()?, number()?, number()?);
    let (irq, softirq, steal) = (number()?, number()?, number()?);
    Some(MachineTime { busy: user + nice + system + irq + softirq + steal, idle: idle + wait })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 1 0 0 0 250 31 0 0 20 0 4 0 1 2 3";
        assert_eq!(process_ticks(stat), Some(281));
        assert_eq!(process_ticks("12 (a"), None);
        let stat = "cpu  10 1 20 300 40 5 6 7 8 9\ncpu0 5 0 10 150 20 2 3 3 4 4\n";
        assert_eq!(machine_ticks(stat), Some(MachineTime { busy: 49, idle: 340 }));
        assert_eq!(machine_ticks("cpu  10 1"), None);
    }

    #[test]
    fn what_nobody_of_the_three_took_is_of_others() {
        let times = |relay, senders, broker, busy, idle| CoreTimes {
            relay,
            senders,
            broker,
            machine: MachineTime { busy, idle },
        };
        let first = times(100, 10, 20, 1000, 500);
        let (relay, neighbors) = times(300, 60, 120, 1400, 700).since(&first, 10.0);
        let Neighbors { senders, broker, others, idle } = neighbors;
        assert_eq!([relay, senders, broker, others, idle], [20.0, 5.0, 10.0, 5.0, 20.0]);
        // Ticks are coarse: three processes may seem to have had more than there was.
        assert_eq!(times(300, 60, 120, 1300, 500).since(&first, 1.0).1.others, 0.0);
    }
}
