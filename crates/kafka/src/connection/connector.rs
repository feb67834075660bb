//! Makes a connection: TCP, TLS, ApiVersions, SASL, all within ten seconds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::SslContext;
use rand::seq::SliceRandom;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::Refusals;
use super::pool::Pool;
use super::sasl::Login;
use super::stream::Stream;
use super::tls::Contexts;
use super::{Connection, ConnectionError, tls};
use crate::config::ClusterConfig;
use crate::error::StartError;
use crate::security::Bearer;

/// Longest time until a connection can be used. Errors name it.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest time for one address of a host that has several.
const ONE_OF_SEVERAL: Duration = Duration::from_millis(1500);
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// Makes connections to the brokers of a cluster.
pub(crate) struct Connector {
    tls: Option<Arc<Contexts>>,
    login: Option<Arc<Login>>,
    /// Buffers that its connections share.
    pool: Arc<Pool>,
}

impl Connector {
    /// Reads the certificates; sends nothing.
    ///
    /// # Errors
    /// If a certificate or a key cannot be used.
    pub(crate) fn new(
        cluster: &ClusterConfig,
        tokens: Option<Arc<Bearer>>,
    ) -> Result<Arc<Self>, StartError> {
        let tls = cluster.security.tls.as_ref().map(Contexts::new).transpose()?.map(Arc::new);
        let login =
            cluster.security.sasl.as_ref().map(|sasl| Arc::new(Login::new(sasl, tokens.as_ref())));
        Ok(Arc::new(Self { tls, login, pool: Arc::default() }))
    }

    /// Makes connections to the same brokers, and authenticates by other tokens.
    pub(crate) fn with_tokens(&self, tokens: Arc<Bearer>) -> Arc<Self> {
        let (tls, login) = (self.tls.clone(), Some(Arc::new(Login::OAuthBearer(tokens))));
        Arc::new(Self { tls, login, pool: Arc::clone(&self.pool) })
    }

    /// A connection to one of these servers, which are tried in a random order: the first one is
    /// not to have all the work, and one that hangs is not to delay each attempt.
    ///
    /// # Errors
    /// The reason of each server, in the order of the list.
    pub(crate) async fn connect_any(&self, servers: &[String]) -> Result<Connection, Refusals> {
        let mut order: Vec<_> = servers.iter().enumerate().collect();
        order.shuffle(&mut rand::rng());
        let mut refusals = Vec::new();
        for (place, server) in order {
            match self.connect(server).await {
                Ok(connection) => return Ok(connection),
                Err(error) => refusals.push((place, error)),
            }
        }
        refusals.sort_by_key(|(place, _)| *place);
        Err(Refusals(refusals.into_iter().map(|(_, error)| error).collect()))
    }

    /// A connection that can be used: connected, encrypted and authenticated as the settings say.
    ///
    /// # Errors
    /// Why not; the text is the same each time for the same reason.
    pub(crate) async fn connect(&self, address: &str) -> Result<Connection, ConnectionError> {
        let deadline = Instant::now() + CONNECT;
        let late = |missing: &str| {
            let reason = format!("{missing} within {} s", CONNECT.as_secs());
            move |_: Elapsed| ConnectionError::new(address, &reason)
        };
        let (tcp, round_trip) =
            timeout_at(deadline, tcp(address)).await.map_err(late("no TCP connection"))??;
        let stream: Stream = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => timeout_at(deadline, encrypt(&tls.current(), address, tcp))
                .await
                .map_err(late("no TLS connection"))??,
        };
        let mut connection = Connection::new(
            address,
            stream,
            round_trip,
            self.login.clone(),
            Arc::clone(&self.pool),
        );
        timeout_at(deadline, connection.learn_versions()).await.map_err(late("no answer"))??;
        timeout_at(deadline, connection.authenticate())
            .await
            .map_err(late("not authenticated"))??;
        Ok(connection)
    }
}

/// Connects, and returns how long the host took to take the connection.
async fn tcp(address: &str) -> Result<(TcpStream, Duration), ConnectionError> {
    let fault = |error: io::Error| ConnectionError::new(address, &error.to_string());
    let addresses = look_up(address).await.map_err(fault)?;
    let (tcp, round_trip) = first_of(addresses).await.map_err(fault)?;
    tcp.set_nodelay(true).map_err(fault)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    SockRef::from(&tcp).set_tcp_keepalive(&keepalive).map_err(fault)?;
    Ok((tcp, round_trip))
}

/// The addresses of `HOST:PORT`. A dot behind a name says that it is complete; a hosts file does
/// not have it.
async fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
    let found = lookup_host(address).await.map(Iterator::collect);
    match (found, address.rsplit_once(".:")) {
        (Err(_), Some((host, port))) => Ok(lookup_host(format!("{host}:{port}")).await?.collect()),
        (found, _) => found,
    }
}

/// Connects to the first of a host's addresses that answers. Each but the last has a moment only:
/// one that swallows everything must not stand before the others.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<(TcpStream, Duration)> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut left = addresses.len();
    for address in addresses {
        left -= 1;
        let began = Instant::now();
        let connecting = TcpStream::connect(address);
        let connected = match left {
            // Within the deadline of the whole.
            0 => connecting.await,
            _ => timeout(ONE_OF_SEVERAL, connecting).await.unwrap_or_else(|late| Err(late.into())),
        };
        match connected {
            Ok(stream) => return Ok((stream, began.elapsed())),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn encrypt(
    tls: &SslContext,
    address: &str,
    tcp: TcpStream,
) -> Result<Stream, ConnectionError> {
    match tls::encrypt(tls, address, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(ConnectionError::new(address, &error.to_string())),
    }
}
