//! The admin server: `/healthz`, `/readyz`, `/metrics` and `/status` over HTTP/1.1.
//!
//! It shows what a [`Source`] reports and knows nothing else of the relay. GET and HEAD only;
//! request bodies are never read; slow and numerous clients are cut off, and requests for other
//! hosts refused.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

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
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zafka_bridge::StatusHandle;
use zafka_bridge::status::{RelayReadiness, RelayStatus, RouteReadiness, WaitStatus};

use crate::config::AdminConfig;
use crate::hosts::{self, Hosts};
use crate::identity::{Identities, IdentityStatus};
use crate::stderr;
use serve::Limits;

/// Returns the relay's status at the moment of the call.
pub trait Source: Send + Sync {
    /// Returns the content of `/readyz`; cheap.
    fn readiness(&self) -> RelayReadiness;
    /// Returns the content of `/metrics`: everything but the peers.
    fn counters(&self) -> RelayStatus;
    /// Returns the content of `/status`: everything.
    fn status(&self) -> RelayStatus;
    /// Returns the identities of the peers for both, if they have any.
    fn identity(&self) -> Option<IdentityStatus> {
        None
    }
    /// Returns, for `/readyz`, the reasons why peers are kept out that did nothing wrong.
    fn kept_out(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A relay that runs.
pub struct Running {
    /// Its routes.
    pub status: StatusHandle,
    /// The identities of its peers.
    pub identities: Option<Arc<Identities>>,
}

impl Source for Running {
    fn readiness(&self) -> RelayReadiness {
        self.status.readiness()
    }

    fn counters(&self) -> RelayStatus {
        self.status.counters()
    }

    fn status(&self) -> RelayStatus {
        self.status.status()
    }

    fn identity(&self) -> Option<IdentityStatus> {
        self.identities.as_ref().map(|identities| identities.status())
    }

    fn kept_out(&self) -> Vec<String> {
        self.identities.as_ref().map(|identities| identities.kept_out()).unwrap_or_default()
    }
}

/// The version that `/status` and `/metrics` show.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The admin server's address, taken. No request is answered yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    hosts: Hosts,
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
    /// The cause.
    #[source]
    pub source: std::io::Error,
}

impl Bound {
    /// Takes the address that `config` names.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn new(config: AdminConfig) -> Result<Self, AdminError> {
        let AdminConfig { bind, hosts, control: _ } = config;
        let fail = |source| AdminError { bind, source };
        let listener = TcpListener::bind(bind).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, hosts: Hosts::new(bind.ip(), hosts) })
    }

    /// Serves until dropped.
    pub fn serve(self, source: Arc<dyn Source>) -> Admin {
        let Self { listener, address, hosts } = self;
        let task = tokio::spawn(serve::serve(listener, router(source, hosts), Limits::default()));
        tracing::info!(%address, "admin server listens");
        Admin { address, task }
    }
}

impl Admin {
    /// The address that it listens at, a wildcard port resolved.
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
    source: Arc<dyn Source>,
    started: Instant,
    /// Held while the status is made: one at a time.
    status: Arc<Semaphore>,
}

impl Shared {
    /// Asks a source, which may take time: not on a thread that relays. One request at a time.
    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Source) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.status).acquire_owned().await.ok()?;
        let source = Arc::clone(&self.source);
        let asking = spawn_blocking(move || {
            let told = what(&*source);
            drop(turn);
            told
        });
        // The panic hook has logged it.
        asking.await.ok()
    }
}

fn router(source: Arc<dyn Source>, hosts: Hosts) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(show_status))
        .layer(from_fn_with_state(Arc::new(hosts), hosts::check))
        .with_state(Shared { source, started: Instant::now(), status: Arc::new(Semaphore::new(1)) })
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
    /// Missing if it is no route.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    reason: String,
}

async fn ready(State(shared): State<Shared>) -> Response {
    let (mut not_ready, mut waiting) = (Vec::new(), Vec::new());
    for RouteReadiness { name, reason, waiting: waits, .. } in shared.source.readiness().routes {
        waiting.extend(waits.into_iter().map(|wait| Waiting { route: name.clone(), wait }));
        not_ready.extend(reason.map(|reason| NotReady { route: Some(name), reason }));
    }
    let kept_out = shared.source.kept_out().into_iter();
    not_ready.extend(kept_out.map(|reason| NotReady { route: None, reason }));
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
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityStatus>,
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
    let asked = shared.ask(|source| (source.status(), source.identity())).await;
    let Some((relay, identity)) = asked else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let uptime_seconds = shared.started.elapsed().as_secs();
    let process = ProcessCounters::now();
    Json(FullStatus { version: VERSION, uptime_seconds, process, relay, identity }).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let (uptime, now) = (shared.started.elapsed(), SystemTime::now());
    let asked = shared.ask(|source| (source.counters(), source.identity())).await;
    let Some((status, identity)) = asked else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match metrics::text(&status, identity.as_ref(), ProcessCounters::now(), uptime, now) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
