//! Tasks that are to run as long as their socket.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

/// Pause before a task that panicked begins again.
const PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// Runs the task that `make` makes until it returns. If it panics, that is logged and it begins
/// again.
pub(crate) async fn keep_running<F>(route: &str, what: &str, mut make: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // It ends with this future.
        let mut task = JoinSet::new();
        task.spawn(make());
        let Some(Err(failure)) = task.join_next().await else { return };
        error!(route, "internal error: {what}: {failure}; begins again");
        sleep(PAUSE).await;
    }
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
}
