//! The signals that end the process.
//!
//! The first one ends the work in order. The second ends the process, whatever its threads do at
//! that moment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// Signals within so long are one: some tools signal a process and then its group.
const ONE_SIGNAL: Duration = Duration::from_millis(50);

/// The first of the signals that end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The end of the terminal, unless the process was told to outlive that.
    hangup: Option<Signal>,
    /// From when on a signal is the second one.
    again: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// A handler that cannot be installed.
    pub fn new() -> io::Result<Self> {
        let again = Arc::new(AtomicBool::new(false));
        let (terminate, interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut numbers = vec![SIGTERM, SIGINT];
        let mut hangup = None;
        if !outlives_terminal() {
            hangup = Some(signal(SignalKind::hangup())?);
            numbers.push(SIGHUP);
        }
        for number in numbers {
            signal_hook::flag::register_conditional_shutdown(number, 1, Arc::clone(&again))?;
        }
        Ok(Self { terminate, interrupt, hangup, again })
    }

    /// Waits for a signal and returns its name. From then on one more ends the process.
    pub async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = received(self.hangup.as_mut()) => "SIGHUP",
        };
        sleep(ONE_SIGNAL).await;
        self.again.store(true, Ordering::Relaxed);
        name
    }
}

async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Returns true if the process was started with SIGHUP ignored, as `nohup` does. Only Linux tells.
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
    fn masks_of_ignored_signals() {
        for (mask, ignored) in
            [("0000000000000001", true), ("0000000000001000", false), ("", false)]
        {
            let status = format!("Name:\tzafka\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
            assert_eq!(is_ignored(&status, SIGHUP), ignored, "{mask}");
        }
    }
}
