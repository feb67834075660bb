//! The admin server: `/healthz`, `/readyz`, `/metrics` and `/status` over HTTP/1.1.
//!
//! It shows what a status function tells and knows nothing else of the relay. GET and HEAD only; request bodies are
//! never read; slow and numerous clients are cut off.

mod metrics;
mod serve;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use zafka_bridge::status::{RelayStatus, RouteStatus, WaitStatus};

use crate::stderr;
use serve::Limits;

/// Tells the relay's status at the moment it is called.
pub type StatusSource = Arc<dyn Fn() -> RelayStatus + Send + Sync>;

/// The version that `/status` and `/metrics` tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The admin server's address, taken. Nobody is answered yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// The admin server, answering. Dropped, it ends.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

/// The admin server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("admin server: cannot listen on {bind}: {source}")]
pub struct AdminError {
    /// The address.
    pub bind: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

impl Bound {
    /// Takes the address `bind`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn new(bind: SocketAddr) -> Result<Self, AdminError> {
        let fail = |source| AdminError { bind, source };
        let listener = TcpListener::bind(bind).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address })
    }

    /// Serves until dropped.
    pub fn serve(self, status: StatusSource) -> Admin {
        let Self { listener, address } = self;
        let task = tokio::spawn(serve::serve(listener, router(status), Limits::default()));
        tracing::info!(%address, "admin server listens");
        Admin { address, task }
    }
}

impl Admin {
    /// Where it listens, a wildcard port resolved.
    #[cfg(test)]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        tracing::debug!(address = %self.address, "admin server ends");
        self.task.abort();
    }
}

#[derive(Clone)]
struct Shared {
    status: StatusSource,
    started: Instant,
}

fn router(status: StatusSource) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(show_status))
        .with_state(Shared { status, started: Instant::now() })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    not_ready: Vec<NotReady>,
    waiting: Vec<Waiting>,
}

#[derive(Serialize)]
struct Waiting {
    route: String,
    #[serde(flatten)]
    wait: WaitStatus,
}

#[derive(Serialize)]
struct NotReady {
    route: String,
    reason: String,
}

async fn ready(State(shared): State<Shared>) -> Response {
    let (mut not_ready, mut waiting) = (Vec::new(), Vec::new());
    for RouteStatus { name, ready, reason, waiting: waits, .. } in (shared.status)().routes {
        waiting.extend(waits.into_iter().map(|wait| Waiting { route: name.clone(), wait }));
        if !ready {
            let reason = reason.unwrap_or("not ready".to_owned());
            not_ready.push(NotReady { route: name, reason });
        }
    }
    let ready = not_ready.is_empty();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Ready { ready, not_ready, waiting })).into_response()
}

#[derive(Serialize)]
struct FullStatus {
    version: &'static str,
    uptime_seconds: u64,
    #[serde(flatten)]
    process: ProcessCounters,
    #[serde(flatten)]
    relay: RelayStatus,
}

/// Counters of the process; each only grows.
#[derive(Clone, Copy, Debug, Serialize)]
struct ProcessCounters {
    /// Log lines that could not be written.
    log_lines_dropped: u64,
    /// Threads and tasks that panicked.
    panics: u64,
}

impl ProcessCounters {
    fn now() -> Self {
        Self { log_lines_dropped: stderr::dropped(), panics: stderr::panics() }
    }
}

async fn show_status(State(shared): State<Shared>) -> Response {
    let uptime_seconds = shared.started.elapsed().as_secs();
    Json(FullStatus {
        version: VERSION,
        uptime_seconds,
        process: ProcessCounters::now(),
        relay: (shared.status)(),
    })
    .into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let (uptime, now) = (shared.started.elapsed(), SystemTime::now());
    match metrics::text(&(shared.status)(), ProcessCounters::now(), uptime, now) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
