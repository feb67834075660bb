//! Threads and tasks whose panic does not go unnoticed: what they were to do would be left undone
//! in silence.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use tokio::task::JoinError;
use tracing::error;

use crate::mailbox::Mailbox;

/// A thread or a task panicked, and its work is left undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error: {who} panicked: {text}")]
pub(crate) struct Panicked {
    who: &'static str,
    text: String,
}

impl Panicked {
    pub(crate) fn new(who: &'static str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self { who, text: text.unwrap_or("no text").to_owned() }
    }

    /// Reads the end of a task; `None` if it was canceled.
    pub(crate) fn of_task(who: &'static str, ended: JoinError) -> Option<Self> {
        ended.try_into_panic().ok().map(|panic| Self::new(who, &*panic))
    }
}

/// Time between a panic and the next try.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// Starts a thread of a source. If it panics the route stops: no other thread does its work.
pub(crate) fn spawn(
    name: &'static str,
    panics: &Mailbox<Panicked>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let panics = panics.clone();
    Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(panicked) = caught(name, run) {
            panics.send(panicked);
        }
    })
}

/// Runs until it returns; after a panic again.
pub(crate) fn again_and_again(who: &'static str, mut run: impl FnMut()) {
    while let Err(panicked) = caught(who, &mut run) {
        error!(reason = %panicked, "trying again");
        sleep(PAUSE);
    }
}

/// # Errors
/// It panics.
pub(crate) fn caught(who: &'static str, run: impl FnOnce()) -> Result<(), Panicked> {
    // What it leaves half done is its own, and is dropped or begun again.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| Panicked::new(who, &*panic))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn the_panic_of_a_thread_is_told_with_its_reason() {
        let (sender, panics) = channel();
        let mailbox = Mailbox::new(&sender);
        spawn("kafka-test", &mailbox, || panic!("at {}", 7)).unwrap().join().unwrap();
        let panicked: Panicked = panics.recv().unwrap();
        assert_eq!(panicked.to_string(), "internal error: kafka-test panicked: at 7");
        spawn("kafka-test", &mailbox, || {}).unwrap().join().unwrap();
        assert!(panics.try_recv().is_err(), "an end is none");
    }

    #[test]
    fn what_is_to_go_on_is_tried_again() {
        let mut rounds = 0;
        again_and_again("kafka-test", || {
            rounds += 1;
            assert!(rounds > 1, "the first one breaks");
        });
        assert_eq!(rounds, 2);
    }
}
