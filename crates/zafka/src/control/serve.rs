//! The relay's side of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};
use zafka_identity::Revoked;
use zafka_sockets::IpcListener;

use super::{ControlRequest, LeaseLine, Line, RevokedLine};
use crate::identity::{Identities, tell_the_end};

/// The file is its owner's alone.
const MODE: u32 = 0o600;
/// Size of a request in bytes.
const MAX_REQUEST: u64 = 16 * 1024;
/// Connections at a time; others wait to be accepted.
const CONNECTIONS: usize = 8;
/// Time for a connection: to send a request and to read the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control socket, listening. Dropped, it ends, and takes its file away.
#[derive(Debug)]
pub struct Control {
    _tasks: JoinSet<()>,
}

impl Control {
    /// Listens at a path.
    ///
    /// # Errors
    /// The path cannot be bound; the error names it.
    pub async fn bind(path: &Path, identities: Arc<Identities>) -> io::Result<Self> {
        let listener = IpcListener::bind(path, Some(MODE)).await.map_err(|error| {
            io::Error::new(error.kind(), format!("admin.control: {}: {error}", path.display()))
        })?;
        info!(path = %path.display(), "the control socket listens");
        let mut tasks = JoinSet::new();
        let health = Arc::clone(identities.health());
        let accepting = accept(listener, identities);
        tasks.spawn(tell_the_end("the control socket", health, accepting));
        Ok(Self { _tasks: tasks })
    }
}

async fn accept(listener: IpcListener, identities: Arc<Identities>) {
    let (places, mut serving) = (Arc::new(Semaphore::new(CONNECTIONS)), JoinSet::new());
    let mut failing = false;
    loop {
        while serving.try_join_next().is_some() {}
        // Each connection has its deadline. The places are there as long as this is.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                failing = false;
                let identities = Arc::clone(&identities);
                serving.spawn(async move {
                    match timeout(TIMEOUT, serve(stream, &identities)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "control connection ended"),
                        Err(_) => debug!("control connection cut off: it took too long"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "control socket: accept failed; retrying");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one request.
async fn serve(stream: UnixStream, identities: &Identities) -> io::Result<()> {
    let user = stream.peer_cred().ok().map(|user| user.uid());
    let (input, output) = stream.into_split();
    let mut request = Vec::new();
    let mut input = BufReader::new(input.take(MAX_REQUEST));
    input.read_until(b'\n', &mut request).await?;
    let mut output = BufWriter::new(output);
    for line in lines(&request, identities, user) {
        // Numbers and texts alone always serialize.
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        output.write_all(&line).await?;
    }
    output.shutdown().await
}

/// The answer to a request of this user.
fn lines(request: &[u8], identities: &Identities, user: Option<u32>) -> Vec<Line> {
    let error = |why: String| vec![Line::Error(why), Line::End];
    match serde_json::from_slice(request) {
        Err(why) => error(format!("not a request: {why}")),
        Ok(ControlRequest::Leases {}) => {
            let leases = identities.leases().into_iter().map(|lease| {
                Line::Lease(LeaseLine {
                    key: lease.key.to_string(),
                    issuer: lease.claims.issuer().to_owned(),
                    subject: lease.claims.subject().to_owned(),
                    token_id: lease.claims.token_id().map(str::to_owned),
                    until: lease.expires,
                    connections: lease.connections,
                })
            });
            leases.chain([Line::End]).collect()
        }
        Ok(ControlRequest::Revoke { what, seconds }) => {
            let what = match Revoked::try_from(what) {
                Ok(what) => what,
                Err(why) => return error(why),
            };
            match identities.revoke(&what, Duration::from_secs(seconds), user) {
                Ok(done) => {
                    let line = RevokedLine {
                        revoked: what.to_string(),
                        keys: done.keys,
                        connections: done.connections,
                        until: done.until,
                    };
                    vec![Line::Revoked(line), Line::End]
                }
                Err(why) => error(why.to_string()),
            }
        }
    }
}
