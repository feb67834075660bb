//! The accept loop, with its limits: connections at a time, time for a request's head, time for a connection.

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

/// Connections at a time; more wait in the kernel.
const CONNECTIONS: usize = 64;
/// Time to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a connection lasts, however many requests it brings.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Size of a request's head in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after an accept that failed, as it does when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` for ever. Connections end with the future.
pub async fn serve(listener: TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone());
                connections.spawn(async move {
                    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
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

async fn connection(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let result = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = result {
        tracing::debug!(%error, "admin connection ended");
    }
}
