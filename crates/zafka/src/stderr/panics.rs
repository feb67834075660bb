//! Panics, wherever they happen: each is a line in the log, and counted.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{PANIC_FLUSH, QUEUE, say};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Reports panics from now on, in place of Rust's own report, which waits for standard error.
pub(super) fn report() {
    panic::set_hook(Box::new(tell));
}

/// Panics since the start.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn tell(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let what = panic.to_string().replace('\n', " ");
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(thread, "internal error: {what}");
    } else {
        // The log is off; this is no matter of the log alone.
        say(&format!("zafka: internal error in thread {thread}: {what}"));
    }
    // Captured if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        say(&backtrace.to_string());
    }
    QUEUE.flush(PANIC_FLUSH);
}
