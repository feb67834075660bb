//! Tasks that are to run as long as their socket.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;
use tracing::error;

/// Pause before a task that panicked begins again.
const PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// Runs what `make` makes until it returns. If it panics, that is logged and it begins again. It is
/// a part of this future, not a task of its own: whoever waits for the end of this one knows that
/// all it held is gone, such as a listener whose address is to be bound again.
pub(crate) async fn keep_running<F>(route: &str, what: &str, mut make: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    while let Err(panic) = caught(make()).await {
        error!(route, "internal error: {what}: {}; begins again", message(&*panic));
        sleep(PAUSE).await;
    }
}

/// Runs it until it returns or panics.
async fn caught(future: impl Future<Output = ()>) -> Result<(), Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        // It is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// The text of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_begun_again() {
        let begun = Arc::new(AtomicUsize::new(0));
        let make = || {
            let begun = Arc::clone(&begun);
            async move {
                assert!(begun.fetch_add(1, Ordering::Relaxed) == 2, "as a mistake of ours would");
            }
        };
        keep_running("test", "a task", make).await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn the_text_of_a_panic_is_told() {
        let number = 7;
        for (panic, text) in [
            (caught(async { panic!("as it is") }).await, "as it is"),
            (caught(async { panic!("with {number}") }).await, "with 7"),
            (caught(async { std::panic::panic_any(number) }).await, "a panic without a text"),
        ] {
            assert_eq!(message(&*panic.unwrap_err()), text);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_it_holds_is_gone_once_its_task_is() {
        for _ in 0..200 {
            let held = Arc::new(());
            let mut tasks = tokio::task::JoinSet::new();
            let inner = Arc::clone(&held);
            tasks.spawn(async move {
                let make = || {
                    let inner = Arc::clone(&inner);
                    async move {
                        let _inner = inner;
                        std::future::pending::<()>().await;
                    }
                };
                keep_running("test", "a task", make).await;
            });
            tokio::task::yield_now().await;
            tasks.shutdown().await;
            assert_eq!(Arc::strong_count(&held), 1);
        }
    }
}
