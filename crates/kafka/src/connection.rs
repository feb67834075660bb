//! A connection of our own to a broker: TCP, TLS, SASL, and requests one at a time.

mod error;
mod frames;
mod sasl;
mod scram;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{ClusterConfig, Sasl};
use crate::error::StartError;
use crate::security::TokenProvider;
pub(crate) use error::ConnectionError;
use frames::Frames;
use sasl::Login;
use stream::Stream;

/// How long a connection may take until it can be used.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the writing of a request, or a step of authentication, may take.
const STEP: Duration = Duration::from_secs(10);
/// The largest answer to anything but a fetch or a metadata request.
const SMALL: usize = 1 << 20;
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// Makes connections to the brokers of a cluster.
pub(crate) struct Connector {
    tls: Option<TlsConnector>,
    sasl: Option<Sasl>,
    tokens: Option<Arc<TokenProvider>>,
}

impl Connector {
    /// Reads the certificates; asks nobody.
    ///
    /// # Errors
    /// Where a certificate or a key cannot be used.
    pub(crate) fn new(
        cluster: &ClusterConfig,
        tokens: Option<Arc<TokenProvider>>,
    ) -> Result<Arc<Self>, StartError> {
        let tls = cluster.security.tls.as_ref().map(tls::client).transpose()?;
        Ok(Arc::new(Self {
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            sasl: cluster.security.sasl.clone(),
            tokens,
        }))
    }

    /// A connection that can be used: connected, encrypted and authenticated as the settings say.
    ///
    /// # Errors
    /// Why not; the text is the same each time for the same reason.
    pub(crate) async fn connect(&self, address: &str) -> Result<Connection, ConnectionError> {
        let connected = timeout(CONNECT, self.steps(address)).await;
        connected.unwrap_or_else(|_| Err(ConnectionError::new(address, "no connection within 10 s")))
    }

    async fn steps(&self, address: &str) -> Result<Connection, ConnectionError> {
        let fault = |error: &dyn std::fmt::Display| ConnectionError::new(address, &error.to_string());
        let tcp = TcpStream::connect(address).await.map_err(|error| fault(&error))?;
        tcp.set_nodelay(true).map_err(|error| fault(&error))?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
        SockRef::from(&tcp).set_tcp_keepalive(&keepalive).map_err(|error| fault(&error))?;
        let stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => {
                let name = server_name(address).map_err(|error| fault(&error))?;
                let stream = tls.connect(name, tcp).await.map_err(|error| fault(&error))?;
                Stream::Tls(Box::new(stream))
            }
        };
        let mut connection = Connection {
            address: address.to_owned(),
            stream,
            frames: Frames::default(),
            versions: HashMap::new(),
            last: None,
            correlation: 0,
            login: self.sasl.as_ref().map(|sasl| Login::new(sasl, self.tokens.as_ref())),
            renew_at: None,
        };
        connection.learn_versions().await?;
        connection.authenticate().await?;
        Ok(connection)
    }
}

/// The host of `HOST:PORT`, as a certificate names it.
fn server_name(address: &str) -> Result<ServerName<'static>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host.clone())
        .map_err(|_| format!("\"{host}\" is no name that a certificate can have"))
}

/// An answer that is waited for.
#[derive(Clone, Copy, Debug)]
struct Waited {
    correlation: i32,
    header_version: i16,
}

/// A connection to a broker. One request is under way at a time.
pub(crate) struct Connection {
    address: String,
    stream: Stream,
    frames: Frames,
    versions: HashMap<i16, (i16, i16)>,
    last: Option<Waited>,
    correlation: i32,
    login: Option<Login>,
    /// When the session at the broker is to be renewed (KIP-368).
    renew_at: Option<Instant>,
}

impl Connection {
    /// The highest version of an API that both sides have; `ours` is what we speak.
    pub(crate) fn version(&self, key: ApiKey, ours: RangeInclusive<i16>) -> Option<i16> {
        let (least, most) = self.versions.get(&(key as i16)).copied()?;
        let version = most.min(*ours.end());
        (version >= least && version >= *ours.start()).then_some(version)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) async fn send<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<(), ConnectionError> {
        self.correlation = self.correlation.wrapping_add(1);
        let mut frame = BytesMut::with_capacity(512);
        frame.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("zafka")));
        let encoded = header.encode(&mut frame, R::header_version(version));
        encoded.and_then(|()| request.encode(&mut frame, version)).map_err(|error| self.fault(&error))?;
        let size = i32::try_from(frame.len() - 4).map_err(|error| self.fault(&error))?;
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = size.to_be_bytes();
        }
        let header_version = R::Response::header_version(version);
        self.last = Some(Waited { correlation: self.correlation, header_version });
        match timeout(STEP, self.write(&frame)).await {
            Ok(written) => written.map_err(|error| self.fault(&error)),
            Err(_) => Err(self.fault(&"it takes no request")),
        }
    }

    async fn write(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await
    }

    /// The size of the next answer, once it is known. What was read stays here if this is dropped.
    ///
    /// # Errors
    /// The connection is of no more use, or the answer is larger than `limit`.
    pub(crate) async fn receive_size(&mut self, limit: usize) -> Result<usize, ConnectionError> {
        match self.frames.size(&mut self.stream, limit).await {
            Ok(size) => Ok(size),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// The body of the next answer. What was read stays here if this is dropped.
    ///
    /// # Errors
    /// As [`receive_size`](Self::receive_size); or where it is not the answer to the last request.
    pub(crate) async fn receive(&mut self, limit: usize) -> Result<Bytes, ConnectionError> {
        let mut frame = match self.frames.frame(&mut self.stream, limit).await {
            Ok(frame) => frame,
            Err(error) => return Err(self.fault(&error)),
        };
        let waited = self.last.take().ok_or_else(|| self.fault(&"an answer to nothing"))?;
        let header = ResponseHeader::decode(&mut frame, waited.header_version);
        let header = header.map_err(|error| self.fault(&error))?;
        if header.correlation_id != waited.correlation {
            let (found, expected) = (header.correlation_id, waited.correlation);
            return Err(self.fault(&format!("an answer to request {found} instead of {expected}")));
        }
        Ok(frame)
    }

    /// Renews the session where its time has come. To be called while no request is under way.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) async fn renew(&mut self) -> Result<(), ConnectionError> {
        match self.renew_at {
            Some(due) if Instant::now() >= due => self.authenticate().await,
            _ => Ok(()),
        }
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> ConnectionError {
        ConnectionError::new(&self.address, &error.to_string())
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, ConnectionError> {
        self.send(request, version).await?;
        match timeout(STEP, self.receive(SMALL)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.fault(&"no answer")),
        }
    }

    async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, ConnectionError> {
        let mut body = self.exchange(request, version).await?;
        R::Response::decode(&mut body, version).map_err(|error| self.fault(&error))
    }

    /// ApiVersions; a broker that does not know version 3 answers so in version 0 (KIP-511).
    async fn learn_versions(&mut self) -> Result<(), ConnectionError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("zafka"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut body = self.exchange(&request, 3).await?;
        let unsupported = ResponseError::UnsupportedVersion.code().to_be_bytes();
        let response = if body.starts_with(&unsupported) {
            self.call(&ApiVersionsRequest::default(), 0).await?
        } else {
            ApiVersionsResponse::decode(&mut body, 3).map_err(|error| self.fault(&error))?
        };
        if let Some(code) = ResponseError::try_from_code(response.error_code) {
            return Err(self.fault(&format!("ApiVersions: {code}")));
        }
        let versions = response.api_keys.iter();
        self.versions = versions.map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    async fn authenticate(&mut self) -> Result<(), ConnectionError> {
        let Some(mut login) = self.login.take() else { return Ok(()) };
        let life = login.run(self).await;
        self.login = Some(login);
        // Four fifths of it, as with tokens.
        self.renew_at = life?.map(|life| Instant::now() + life * 4 / 5);
        Ok(())
    }
}
