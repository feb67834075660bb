//! Calls that block for as long as another machine likes, such as those on its file system.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// Time for a call on a file system: what takes longer is not there.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One call at a time, which is waited for within a time.
#[derive(Debug)]
pub struct Blocking<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Blocking<T> {
    /// Begins a call, on a thread of its own.
    pub fn begin(call: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Some(spawn_blocking(call)))
    }

    /// Waits for its end. `None` if it goes on after this time: it may be waited for again. After
    /// its end there is nothing to wait for.
    ///
    /// # Errors
    /// It panicked.
    pub async fn wait(&mut self, patience: Duration) -> Option<Result<T, JoinError>> {
        let ended = timeout(patience, self.0.as_mut()?).await.ok()?;
        self.0 = None;
        Some(ended)
    }
}

/// Does a call on a thread of its own. One that takes too long goes on, and nobody waits for it.
///
/// # Errors
/// It takes too long, or there is no thread for it.
pub fn in_time<T: Send + 'static>(
    patience: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done_tx, done) = mpsc::sync_channel(1);
    // If nobody waits any more, nobody wants to know.
    thread::Builder::new().name("files".to_owned()).spawn(move || drop(done_tx.send(call())))?;
    done.recv_timeout(patience).map_err(|_| late(patience))
}

/// The error of a call that takes too long.
pub fn late(patience: Duration) -> io::Error {
    let text = format!("no answer within {} s", patience.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_call_that_hangs_is_waited_for_again() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let mut call = Blocking::begin(move || hangs.recv().is_ok());
        assert!(call.wait(SHORT).await.is_none());
        assert!(call.wait(SHORT).await.is_none());
        go_on.send(()).unwrap();
        assert!(call.wait(LONG).await.unwrap().unwrap());
        assert!(call.wait(SHORT).await.is_none(), "it has ended");
    }

    #[test]
    fn a_call_that_hangs_keeps_nobody() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let error = in_time(SHORT, move || hangs.recv()).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 0.001 s");
        drop(go_on);
        assert_eq!(in_time(LONG, || 7).unwrap(), 7);
    }
}
