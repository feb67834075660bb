//! The endpoints of a socket: one loop that accepts and one that connects, for all socket types.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};
use zafka_zmtp::Mechanism;

use super::hub::{Hub, Stage};
use super::peer::{Direction, Peer, Wire};
use super::seats::{Seat, Source};
use super::session::{Session, Socket};
use super::{Link, now};
use crate::closed::Closed;
use crate::config::EndpointConfig;
use crate::connect::{Connector, Failures};
use crate::keep_running::keep_running;
use crate::listen::Listener;
use crate::stream::Stream;
use crate::{Endpoint, files};

/// Pause after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks at whether an endpoint still leads to a peer that another one leads to.
const SAME_PEER_PAUSE: Duration = Duration::from_secs(30);

/// The reason why a socket did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {endpoint}: {source}")]
pub struct BindError {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The error of the system.
    #[source]
    pub source: io::Error,
}

/// Endpoints that are bound, and those that are to be connected to.
#[derive(Debug)]
pub(crate) struct Endpoints {
    bound: Vec<(Listener, Endpoint, Mechanism)>,
    connect: Vec<EndpointConfig>,
}

/// The tasks of a socket's endpoints. Dropped, they end; connections do not.
#[derive(Debug)]
pub(crate) struct Serving {
    /// The endpoints that are bound, wildcards resolved, and those that are connected to.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tasks: JoinSet<()>,
}

/// A connection that was accepted or made.
struct Opened {
    stream: Stream,
    /// The peer's, or the endpoint if we connected.
    address: String,
    direction: Direction,
    mechanism: Mechanism,
}

impl Endpoints {
    /// Binds every endpoint of `bind`.
    ///
    /// # Errors
    /// The first endpoint that cannot be bound; those bound before it are let go.
    pub(crate) async fn bind(
        bind: &[EndpointConfig],
        ipc_mode: Option<u32>,
        connect: &[EndpointConfig],
    ) -> Result<Self, BindError> {
        let mut bound = Vec::new();
        for EndpointConfig { endpoint, mechanism } in bind {
            let failed = |source| BindError { endpoint: endpoint.clone(), source };
            let listener = Listener::bind(endpoint, ipc_mode).await.map_err(failed)?;
            let resolved = listener.endpoint().map_err(failed)?;
            bound.push((listener, resolved, mechanism.clone()));
        }
        Ok(Self { bound, connect: connect.to_vec() })
    }

    /// Begins to accept and to connect, for as long as the tasks are kept.
    pub(crate) fn serve<S: Socket>(self, socket: &S) -> Serving {
        let (mut endpoints, mut tasks) = (Vec::new(), JoinSet::new());
        for (listener, endpoint, mechanism) in self.bound {
            info!(route = socket.hub().name, %endpoint, "bound");
            tasks.spawn(keep_accepting(socket.clone(), Arc::new(listener), mechanism));
            endpoints.push(endpoint);
        }
        for to in self.connect {
            endpoints.push(to.endpoint.clone());
            tasks.spawn(keep_connecting(socket.clone(), to));
        }
        Serving { endpoints, tasks }
    }
}

async fn keep_accepting<S: Socket>(socket: S, listener: Arc<Listener>, mechanism: Mechanism) {
    let make = || accept(socket.clone(), Arc::clone(&listener), mechanism.clone());
    keep_running(&socket.hub().name, "the listener", make).await;
}

async fn accept<S: Socket>(socket: S, listener: Arc<Listener>, mechanism: Mechanism) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                failing = false;
                let (direction, mechanism) = (Direction::Accepted, mechanism.clone());
                let opened = Opened { stream, address, direction, mechanism };
                tokio::spawn(serve(socket.clone(), opened));
            }
            // It was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(route = socket.hub().name, %error, "accept failed; retrying");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn keep_connecting<S: Socket>(socket: S, to: EndpointConfig) {
    let what = format!("the connector to {}", to.endpoint);
    let make = || connect(socket.clone(), to.clone());
    keep_running(&socket.hub().name, &what, make).await;
}

async fn connect<S: Socket>(socket: S, to: EndpointConfig) {
    let (mut connector, mut failures) = (Connector::new(to.endpoint), Failures::default());
    let hub = socket.hub();
    loop {
        match connector.attempt().await {
            Ok(stream) => match hub.reached.claim(connector.endpoint(), &stream) {
                Ok(_claim) => {
                    let opened = Opened {
                        stream,
                        address: connector.endpoint().to_string(),
                        direction: Direction::Connected,
                        mechanism: to.mechanism.clone(),
                    };
                    // A task of its own: the connection is ended by the socket's closing, not with
                    // this one.
                    let serving = tokio::spawn(serve(socket.clone(), opened));
                    if serving.await.unwrap_or(false) {
                        connector.succeeded();
                        failures.clear();
                    }
                }
                Err(other) => {
                    drop(stream);
                    hub.count_closed("same_peer", now());
                    // The name's other addresses are not tried: they may well be that peer's too.
                    connector.succeeded();
                    let reason = format!(
                        "it leads to the same peer as {other}: everything would be sent twice"
                    );
                    if failures.is_news(&reason, now()) {
                        let endpoint = connector.endpoint();
                        warn!(route = hub.name, %endpoint, reason, "not used");
                    }
                    sleep(SAME_PEER_PAUSE).await;
                }
            },
            Err(error) if failures.is_news(&error.to_string(), now()) => {
                let endpoint = connector.endpoint();
                warn!(route = hub.name, %endpoint, %error, "cannot connect; retrying");
            }
            Err(_) => {}
        }
        sleep(connector.next_pause()).await;
    }
}

/// Serves a connection to its end. Returns whether its handshake had succeeded.
async fn serve<S: Socket>(socket: S, opened: Opened) -> bool {
    let Opened { stream, address, direction, mechanism } = opened;
    let hub = socket.hub();
    let place = match place(hub, &stream, direction).await {
        Ok(place) => place,
        Err(reason) => {
            drop(stream);
            hub.refuse(&address, &reason, now());
            return false;
        }
    };
    let link_slot = hub.join();
    let peer = Arc::new(Peer::new(link_slot.id, &stream, address, direction, hub.is_gated()));
    let wire = Arc::new(Wire::new(Arc::clone(&peer), stream));
    let session = socket.join(&wire, now());
    let mut link = Link::new(hub, &wire, session, direction, mechanism, place);
    let reason = match link.run().await {
        Ok(never) => match never {},
        Err(reason) => link.end_reason(reason),
    };
    let now = now();
    link.session.handle_closed(&reason, now);
    drop(link);
    drop(link_slot);
    hub.end(&peer, &reason, now);
    peer.socket_type().is_some()
}

/// Waits for the place that a connection needs for its handshake; one that we made needs none.
///
/// # Errors
/// The reason to close it at once.
async fn place(hub: &Hub, stream: &Stream, from: Direction) -> Result<Option<Seat>, Closed> {
    if let Some(limit) = files::beyond_limit(stream) {
        return Err(Closed::FileLimit(limit));
    }
    // Cheaper than to find it out after the handshake; places of peers are given only then.
    if hub.is_full() {
        return Err(Closed::PeerLimit(hub.config.max_peers));
    }
    if from == Direction::Connected {
        return Ok(None);
    }
    let (mut stages, limit) = (hub.stages(), hub.config.handshake_timeout);
    if *stages.borrow_and_update() != Stage::Open {
        return Err(Closed::BySocket);
    }
    tokio::select! {
        biased;
        place = hub.handshakes.take(Source::of(stream)) => {
            place.map(Some).ok_or(Closed::HandshakeLimit)
        }
        _ = stages.changed() => Err(Closed::BySocket),
        () = sleep(limit) => Err(Closed::HandshakeTimeout(limit)),
    }
}
