//! The accept loop, with its limits: connections at a time, time for a request's head, time for a
//! connection.
//!
//! A connection brings one request, and does not last. If there are too many, the oldest is cut
//! off, of those that have not asked for anything yet if there are such: clients that are idle, or
//! do not read, leave a place to others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Limits on clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
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
/// Pause before a server that panicked begins again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Serves `router` on `listener` for ever. Connections end with the future.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits) {
    let listener = Arc::new(listener);
    loop {
        let mut server = JoinSet::new();
        server.spawn(accept(Arc::clone(&listener), router.clone(), limits));
        // It ends by a panic alone, which the panic hook has logged.
        server.join_next().await;
        tracing::error!("admin server: restarted");
        sleep(RESTART_PAUSE).await;
    }
}

async fn accept(listener: Arc<TcpListener>, router: Router, limits: Limits) {
    let mut tasks = JoinSet::new();
    let mut open = VecDeque::new();
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failing = false;
                while tasks.try_join_next().is_some() {}
                make_room(&mut open, limits.connections);
                let asked = Arc::new(AtomicBool::new(false));
                let connection = connection(stream, router.clone(), limits, Arc::clone(&asked));
                open.push_back(Open { task: tasks.spawn(connection), asked });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "admin server: accept failed; retrying");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
struct Open {
    task: AbortHandle,
    /// True once its request has come.
    asked: Arc<AtomicBool>,
}

/// Forgets the connections that have ended, and cuts one off if there are `max` of them still. The
/// oldest are first.
fn make_room(open: &mut VecDeque<Open>, max: usize) {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() >= max {
        let idle = open.iter().position(|connection| !connection.asked.load(Ordering::Relaxed));
        if let Some(cut_off) = open.remove(idle.unwrap_or(0)) {
            cut_off.task.abort();
            tracing::debug!("admin connection cut off: there are too many");
        }
    }
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, asked: Arc<AtomicBool>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.connection_timeout, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection ended"),
        Err(_) => tracing::debug!("admin connection cut off: it took too long"),
    }
}
