//! Mistakes planted on purpose: each is a name at the place at which the product would be wrong,
//! and is chosen at run time, so that one build shows that all of them are found: those of
//! [`MISTAKES`] and [`MISTAKES_TO_KAFKA`] by the simulation, others by tests of their own crates
//! (`assert_found`).
//!
//! Without the feature `planted` nothing is: [`is`] is a constant, and its branches are not
//! compiled. With it, a mistake is chosen by `ZAFKA_PLANT=name`, or by `plant` for one thread. A
//! release build cannot have it.
//!
//! ```
//! /// Returns the offset to commit.
//! fn to_commit(delivered: i64, read: i64) -> i64 {
//!     if zafka_planted::is("read-is-committed") { read } else { delivered }
//! }
//! assert_eq!(to_commit(5, 9), 5);
//! ```
#![forbid(unsafe_code)]

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("a release build has no planted mistakes");

/// Every mistake on the way from Kafka that the simulation finds, and what it is.
pub const MISTAKES: [(&str, &str); 17] = [
    // Those that were made once.
    ("next-request-fails", "an answer is thrown away if the next request cannot be sent"),
    ("recreated-while-it-waits", "a topic is recreated while its partition waits for a leader"),
    ("traffic-hides-a-stall", "records of others hide that a partition stands still"),
    ("reset-counts-undelivered", "a reset counts as delivered what was read before it"),
    // Others.
    ("read-is-committed", "what was read is committed, not what was delivered"),
    ("restart-where-it-was-read", "a partition that was held goes on where it was read"),
    ("old-generation-is-encoded", "records from before a restart are taken for new ones"),
    ("no-rewind-after-a-reset", "commits are not let back where the log was truncated"),
    ("prev-crosses-a-reset", "the first record after a reset names one from before it"),
    ("short-counts-as-delivered", "what too few peers were owed counts as delivered"),
    ("partial-write-counts-whole", "a batch counts as written that the kernel took in part"),
    ("rest-is-dropped", "a half-written message is not finished once its chunk is gone"),
    ("aborted-are-handed-out", "records of aborted transactions are handed out"),
    ("late-answer-is-taken", "an answer counts though the partition is elsewhere by now"),
    ("unseen-offsets-do-not-count", "positions stand still at what no reader is given"),
    ("truncation-is-overlooked", "a leader that tells of a truncated log is not believed"),
    ("split-header-is-forgotten", "a frame header that comes in two parts loses the first"),
];

/// The same on the way to Kafka.
pub const MISTAKES_TO_KAFKA: [(&str, &str); 15] = [
    // Of the producer.
    ("acknowledged-too-early", "a message is acknowledged before all replicas have it"),
    ("second-request-too-early", "a new leader gets a second request before it has answered"),
    ("sequence-before-the-seal", "a batch gets its sequence before its last record"),
    ("buffer-used-again-in-flight", "the buffer of a batch under way takes another batch"),
    ("resent-in-other-batches", "what may be in the log is sent again in other batches"),
    ("resent-under-another-sequence", "what may be in the log gets another sequence"),
    ("resent-in-another-order", "batches are sent again in another order"),
    ("offset-of-the-record-before", "the answer tells the offset of the record before"),
    ("never-told", "nobody is ever told of a batch"),
    ("lost-is-told-failed", "what may be in the log is told as failed"),
    // Of the ledger.
    ("told-before-its-last-record", "a message is told of before its last record is"),
    ("unknown-is-told-failed", "a batch of which a part is in the log is told as failed"),
    ("answers-overtake", "an answer without an id overtakes that of an earlier message"),
    // Of the parts of partitions.
    ("overtakes-what-waits", "a message gets before one of its sender that was set aside"),
    ("full-stays-full", "a partition that had its part under way never takes more again"),
];

/// Returns whether this mistake is to be made.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_name: &str) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use chosen::{assert_found, is, plant};

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::RefCell;
    use std::env;
    use std::process::Command;

    thread_local! {
        static CHOSEN: RefCell<Option<String>> =
            RefCell::new(env::var("ZAFKA_PLANT").ok().filter(|name| !name.is_empty()));
    }

    /// Returns whether this mistake is to be made.
    pub fn is(name: &str) -> bool {
        CHOSEN.with_borrow(|chosen| chosen.as_deref() == Some(name))
    }

    /// Asserts that tests of this binary find mistakes: each of these tests passes, and fails if
    /// the mistake beside it is made in the whole process.
    ///
    /// # Panics
    /// A mistake is not found, or a test fails without one.
    #[allow(clippy::expect_used, reason = "an assertion of tests")]
    pub fn assert_found(mistakes: &[(&str, &str)]) {
        let binary = env::current_exe().expect("the binary of the tests");
        let run = |test: &str, mistake: &str| {
            let mut command = Command::new(&binary);
            command.args([test, "--exact"]).env("ZAFKA_PLANT", mistake);
            let output = command.output().expect("the test runs");
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        for (mistake, test) in mistakes {
            let (passes, out) = run(test, "");
            assert!(passes && out.contains("1 passed"), "{test} without a mistake:\n{out}");
            let (passes, out) = run(test, mistake);
            assert!(!passes && out.contains("1 failed"), "{test} overlooks {mistake}:\n{out}");
        }
    }

    /// Makes this mistake in the current thread from now on, or none.
    pub fn plant(name: Option<&str>) {
        CHOSEN.set(name.map(str::to_owned));
    }
}
