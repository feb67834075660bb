//! Tasks that must run as long as identity does: without one of them a peer would stay in, or out,
//! that should not.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::error;

use super::health::Health;

/// Pause before a task that failed begins again.
const PAUSE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };
/// Time for which it has to run until all is well again.
const WELL_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(1) } else { Duration::from_secs(30) };

/// Runs the task that `make` makes, for as long as this is polled. If it panics or ends, that is
/// logged and it begins again; the relay is not ready meanwhile.
pub async fn keep_running<F>(what: &str, health: Arc<Health>, mut make: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // It ends with this future.
        let mut task = JoinSet::new();
        task.spawn(make());
        let ended = match timeout(WELL_AFTER, task.join_next()).await {
            Ok(ended) => ended,
            Err(_) => {
                health.set_task(what, None);
                task.join_next().await
            }
        };
        let failure = failure(ended);
        error!("internal error: {what}: {failure}; begins again");
        health.set_task(what, Some(failure));
        sleep(PAUSE).await;
    }
}

/// Runs a task that cannot begin again. If it panics or ends, that is logged, and the relay is not
/// ready from then on.
pub async fn tell_the_end<F>(what: &str, health: Arc<Health>, task: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // It ends with this future.
    let mut running = JoinSet::new();
    running.spawn(task);
    let failure = failure(running.join_next().await);
    error!("internal error: {what}: {failure}; a restart is needed");
    health.set_task(what, Some(failure));
}

fn failure(ended: Option<Result<(), JoinError>>) -> String {
    match ended {
        Some(Err(failure)) => failure.to_string(),
        _ => "it has ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_told_and_begun_again() {
        let health = Arc::new(Health::default());
        let (begun, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&health));
        let make = || {
            let (begun, seen) = (Arc::clone(&begun), Arc::clone(&seen));
            async move {
                match begun.fetch_add(1, Ordering::Relaxed) {
                    0 => panic!("as a mistake of ours would"),
                    1 => assert_eq!(seen.reasons().len(), 1),
                    _ => {
                        assert!(seen.reasons()[0].contains("it has ended"));
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let all_is_well = async {
            while begun.load(Ordering::Relaxed) < 3 || !health.reasons().is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = keep_running("a task", Arc::clone(&health), make) => {}
            () = all_is_well => {}
        }
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn the_end_of_a_task_is_told() {
        let health = Arc::new(Health::default());
        tell_the_end("a task", Arc::clone(&health), async { panic!("as a mistake would") }).await;
        assert!(health.reasons()[0].contains("a task"), "{:?}", health.reasons());
    }
}
