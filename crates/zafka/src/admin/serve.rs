//! The accept loop, with its limits: connections at a time, time for a request's head, time for a connection.
//!
//! A connection brings one request, and does not last: clients that kept theirs, or do not read, would leave no slot to
//! others.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel.
    pub connections: usize,
    /// Time to send the head of a request.
    pub head_timeout: Duration,
    /// Time for all of a connection: to send a request and to read the answer.
    pub connection_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_timeout: Duration::from_secs(5),
            connection_timeout: Duration::from_secs(15),
        }
    }
}

/// Size of a request's head in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after an accept that failed, as it does when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` for ever. Connections end with the future.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), limits.head_timeout);
                connections.spawn(async move {
                    if timeout(limits.connection_timeout, connection).await.is_err() {
                        tracing::debug!("admin connection cut off: it took too long");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin server: accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, head_timeout: Duration) {
    let service = TowerToHyperService::new(router);
    let result = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection ended");
    }
}
