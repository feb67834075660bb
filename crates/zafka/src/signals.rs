//! The signals that end the process, and the one that asks for a reload.
//!
//! The first that ends it ends the work in order. The second ends the process at once.
//!
//! SIGHUP says that the terminal has gone, or, by custom, that a service is to reload its
//! configuration. Only the kernel knows which: a process whose terminal has gone has none any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// Signals within so long are one: some tools signal a process and then its group.
const ONE_SIGNAL: Duration = Duration::from_millis(50);

/// A request by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The end, by the signal of this name.
    End(&'static str),
    /// Reload the configuration.
    Reload,
}

/// The meaning of SIGHUP in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The end.
    Ends,
    /// A reload, unless the process had a terminal and that has gone.
    Reloads,
}

/// The signals that a process is asked by.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// SIGHUP, unless the process is to outlive its terminal.
    hangup: Option<Signal>,
    on_hangup: Hangup,
    had_terminal: bool,
    /// One that was received, and not returned yet.
    received: Option<Request>,
    /// True once the next signal is the second one.
    again: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// A handler that cannot be installed.
    pub fn new(on_hangup: Hangup) -> io::Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        let (terminate, interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut numbers = vec![SIGTERM, SIGINT];
        let mut hangup = None;
        if !outlives_terminal() {
            hangup = Some(signal(SignalKind::hangup())?);
            if on_hangup == Hangup::Ends {
                numbers.push(SIGHUP);
            }
        }
        for number in numbers {
            signal_hook::flag::register_conditional_shutdown(number, 1, Arc::clone(&again))?;
        }
        let had_terminal = has_terminal();
        Ok(Self { terminate, interrupt, hangup, on_hangup, had_terminal, received: None, again })
    }

    /// Waits for a signal. After one that ends the process, one more ends it at once. May be
    /// dropped at any time without losing a signal.
    pub async fn next(&mut self) -> Request {
        let request = match self.received {
            Some(request) => request,
            None => tokio::select! {
                _ = self.terminate.recv() => Request::End("SIGTERM"),
                _ = self.interrupt.recv() => Request::End("SIGINT"),
                () = received(self.hangup.as_mut()) => match self.on_hangup {
                    Hangup::Ends => Request::End("SIGHUP"),
                    Hangup::Reloads => Request::Reload,
                },
            },
        };
        self.received = Some(request);
        sleep(ONE_SIGNAL).await;
        self.received = None;
        let is_end = request == Request::Reload && self.had_terminal && !has_terminal();
        let request = if is_end { Request::End("SIGHUP") } else { request };
        if request != Request::Reload {
            self.again.store(true, Ordering::Relaxed);
        }
        request
    }

    /// Waits for a signal that ends the process, and returns its name.
    pub async fn end(&mut self) -> &'static str {
        loop {
            if let Request::End(name) = self.next().await {
                return name;
            }
        }
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Returns true if the process has a controlling terminal. Known on Linux only.
fn has_terminal() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| terminal(&stat) != 0)
}

/// The number of the controlling terminal in a line of `man 5 proc_pid_stat`; 0 if there is none.
fn terminal(stat: &str) -> i32 {
    // The second field is the name of the program, which may have spaces and parentheses in it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(4).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns true if the process was started with SIGHUP ignored, as `nohup` does. Known on Linux
/// only.
fn outlives_terminal() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored(&status, SIGHUP))
}

/// Returns true if a signal is in the mask of those that are ignored (`man 5 proc_pid_status`).
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_of_processes() {
        for (stat, number) in [
            ("7 (zafka) S 1 7 7 34816 7 4194304 0", 34816),
            ("7 (zafka) S 1 7 7 0 -1 4194304 0", 0),
            ("7 (a ) b) S 1 7 7 34817 7", 34817),
            ("7 (zafka) S 1", 0),
            ("", 0),
        ] {
            assert_eq!(terminal(stat), number, "{stat}");
        }
    }

    #[test]
    fn masks_of_ignored_signals() {
        for (mask, ignored) in
            [("0000000000000001", true), ("0000000000001000", false), ("", false)]
        {
            let status = format!("Name:\tzafka\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
            assert_eq!(is_ignored(&status, SIGHUP), ignored, "{mask}");
        }
    }
}
