//! Threads and tasks whose panic does not go unnoticed: what they were to do would be left undone
//! in silence.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle, sleep};
use std::time::Duration;

use tracing::error;

use crate::mailbox::Mailbox;

/// A thread or a task of a source panicked, and its work is left undone. The reason.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

/// Time between a panic and the next try.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// Starts a thread of a source. If it panics the route stops: no other thread does its work.
pub(crate) fn spawn(
    name: &str,
    panics: &Mailbox<Panicked>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (who, panics) = (name.to_owned(), panics.clone());
    Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(reason) = caught(&who, run) {
            panics.send(Panicked(reason));
        }
    })
}

/// Runs until it returns; after a panic again.
pub(crate) fn again_and_again(who: &str, mut run: impl FnMut()) {
    while let Err(reason) = caught(who, &mut run) {
        error!(reason, "trying again");
        sleep(PAUSE);
    }
}

/// # Errors
/// The reason to report, if it panics.
pub(crate) fn caught(who: &str, run: impl FnOnce()) -> Result<(), String> {
    // What it leaves half done is its own, and is dropped or begun again.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| reason(who, &*panic))
}

/// The reason to report for a panic.
pub(crate) fn reason(who: &str, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error: {who} panicked: {}", text.unwrap_or("no text"))
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
        let Ok(Panicked(reason)) = panics.recv() else { panic!("nothing is told") };
        assert_eq!(reason, "internal error: kafka-test panicked: at 7");
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
