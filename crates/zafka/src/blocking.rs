//! Calls that block for as long as another machine likes, such as those on its file system.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::Semaphore;
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

/// Calls of one kind, of which so many have a thread at the same time, those that hang among them.
#[derive(Debug)]
pub struct Calls(Arc<Semaphore>);

impl Calls {
    /// Makes room for so many, each with a thread.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Does a call on a thread of its own, once there is one, and returns what it gives. One that
    /// takes too long goes on, and nobody waits for it.
    ///
    /// # Errors
    /// The others, or the call itself, take longer than this time; or it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let place = timeout(patience, Arc::clone(&self.0).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or_else(|| late(patience))?;
        let mut call = Blocking::begin(move || {
            let _place = place;
            call()
        });
        let ended = call.wait(patience).await.ok_or_else(|| late(patience))?;
        ended.map_err(io::Error::other)
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

    #[tokio::test]
    async fn calls_that_hang_take_no_more_threads_than_there_are() {
        let calls = Calls::new(2);
        let hang = || {
            let (go_on, hangs) = mpsc::channel::<()>();
            (go_on, calls.run(SHORT, move || hangs.recv()))
        };
        let ((first, one), (second, other)) = (hang(), hang());
        for late in [one.await, other.await] {
            assert_eq!(late.unwrap_err().to_string(), "no answer within 0.001 s");
        }
        let (begun, has_begun) = mpsc::channel();
        let call = calls.run(SHORT, move || begun.send(()).is_ok());
        assert_eq!(call.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(has_begun.recv().is_err(), "it had no thread");
        drop(first);
        assert_eq!(calls.run(LONG, || 7).await.unwrap(), 7);
        drop(second);
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
