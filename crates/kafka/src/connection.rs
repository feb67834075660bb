//! A connection of our own to a broker: TCP, TLS, SASL, and requests one at a time.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod answer;
mod connector;
mod error;
mod frames;
mod lending;
mod pipeline;
mod pool;
mod sasl;
mod scram;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod tls;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::debug;
use zafka_oidc::Token;

pub(crate) use answer::{AnswerError, decode};
pub(crate) use connector::Connector;
pub(crate) use error::{ConnectionError, Refusals, RequestError};
use frames::{FrameError, Frames};
pub(crate) use lending::Lending;
pub(crate) use pipeline::Pipeline;
use pool::Pool;
use sasl::Login;
use stream::Stream;
pub(crate) use tls::usable;

/// A connection that was used less recently than this is not used again. Brokers close idle ones
/// after ten minutes, some clouds' after four.
pub(crate) const IDLE: Duration = Duration::from_secs(180);
/// Longest time for the writing of a request, or for a step of authentication.
const STEP: Duration = Duration::from_secs(10);
/// The largest answer to anything but a fetch or a metadata request.
const SMALL: usize = 1 << 20;
/// Brokers refuse to renew a session within a second (KIP-368).
const LEAST_SESSION: Duration = Duration::from_millis(1100);
/// No broker near by takes so long for its first answer.
const FAR: Duration = Duration::from_millis(10);
/// Time between two tries to get a token while the session lasts.
const RETRY: Duration = Duration::from_secs(1);

/// The last request, whose answer is waited for.
#[derive(Clone, Copy, Debug)]
struct LastRequest {
    key: i16,
    correlation: i32,
    header_version: i16,
}

/// The broker's statement on a session (KIP-368).
#[derive(Clone, Copy, Debug)]
struct SaslSession {
    renew_at: Instant,
    end: Instant,
}

/// A connection to a broker. One request is under way at a time.
pub(crate) struct Connection {
    address: String,
    stream: Stream,
    frames: Frames,
    versions: HashMap<i16, (i16, i16)>,
    /// About how long it takes to the broker and back.
    round_trip: Duration,
    last: Option<LastRequest>,
    correlation: i32,
    login: Option<Arc<Login>>,
    /// The session, if it has an end.
    session: Option<SaslSession>,
    /// Renewals of the session.
    renewals: u64,
    /// Something but ApiVersions, which needs no authentication, was answered.
    served: bool,
}

impl Connection {
    fn new(
        address: &str,
        stream: Stream,
        round_trip: Duration,
        login: Option<Arc<Login>>,
        pool: Arc<Pool>,
    ) -> Self {
        Self {
            address: address.to_owned(),
            stream,
            frames: Frames::new(pool),
            versions: HashMap::new(),
            round_trip,
            last: None,
            correlation: 0,
            login,
            session: None,
            renewals: 0,
            served: false,
        }
    }

    /// The highest version of an API that both sides have; `ours` is what we speak.
    pub(crate) fn version(&self, key: ApiKey, ours: RangeInclusive<i16>) -> Option<i16> {
        let (least, most) = self.versions.get(&(key as i16)).copied()?;
        let version = most.min(*ours.end());
        (version >= least && version >= *ours.start()).then_some(version)
    }

    /// Returns the same as [`version`](Self::version), of an API that is needed.
    ///
    /// # Errors
    /// The broker is too old.
    pub(crate) fn needed_version(
        &self,
        api: ApiKey,
        ours: RangeInclusive<i16>,
    ) -> Result<i16, RequestError> {
        let version = self.version(api, ours);
        version.ok_or_else(|| RequestError::TooOld { broker: self.address.clone(), api })
    }

    /// Its broker's `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// About how long it takes to the broker and back.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip
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
        encoded
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| self.fault(&error))?;
        let size = i32::try_from(frame.len() - 4).map_err(|error| self.fault(&error))?;
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = size.to_be_bytes();
        }
        let header_version = R::Response::header_version(version);
        self.last =
            Some(LastRequest { key: R::KEY, correlation: self.correlation, header_version });
        match timeout(STEP, self.write(&frame)).await {
            Ok(written) => written.map_err(|error| self.lost(&error.into())),
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
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Bytes that have come of the next answer's body.
    pub(crate) fn begun(&self) -> usize {
        self.frames.begun()
    }

    /// The body of the next answer. What was read stays here if this is dropped.
    ///
    /// # Errors
    /// As [`receive_size`](Self::receive_size); or if it is not the answer to the last request.
    pub(crate) async fn receive(&mut self, limit: usize) -> Result<Bytes, ConnectionError> {
        let mut frame = match self.frames.frame(&mut self.stream, limit).await {
            Ok(frame) => frame,
            Err(error) => return Err(self.lost(&error)),
        };
        let waited = self.last.take().ok_or_else(|| self.fault(&"an answer to nothing"))?;
        let header = ResponseHeader::decode(&mut frame, waited.header_version);
        let header = header.map_err(|_| self.fault(&AnswerError::Short))?;
        if header.correlation_id != waited.correlation {
            let (found, expected) = (header.correlation_id, waited.correlation);
            return Err(self.fault(&format!("an answer to request {found} instead of {expected}")));
        }
        self.served |= waited.key != ApiKey::ApiVersions as i16;
        Ok(frame)
    }

    /// Renews the session if its time has come; returns how often it was renewed by now. To be
    /// called while no request is under way.
    ///
    /// # Errors
    /// The connection is of no more use. A provider of tokens that is away is no error before the
    /// session ends.
    pub(crate) async fn renew(&mut self) -> Result<u64, ConnectionError> {
        let (Some(session), Some(login)) = (self.session, self.login.clone()) else {
            return Ok(0);
        };
        if Instant::now() < session.renew_at {
            return Ok(self.renewals);
        }
        match login.token().await {
            Ok(token) => {
                self.log_in(&login, token).await?;
                self.renewals += 1;
            }
            Err(error) if Instant::now() < session.end => {
                debug!(broker = self.address, %error, "the session is not renewed yet");
                self.session = Some(SaslSession { renew_at: Instant::now() + RETRY, ..session });
            }
            Err(error) => return Err(self.fault(&error)),
        }
        Ok(self.renewals)
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> ConnectionError {
        ConnectionError::new(&self.address, &error.to_string())
    }

    /// Returns the same as [`fault`](Self::fault), with what the end of a connection may mean: a
    /// listener with SASL answers ApiVersions to any client, and closes at the first request that
    /// needs a name.
    fn lost(&self, error: &FrameError) -> ConnectionError {
        match error {
            FrameError::Closed
                if !self.served && self.login.is_none() && !self.versions.is_empty() =>
            {
                self.fault(&format!(
                    "{error} before the first answer: the listener may want SASL \
                     (kafka.security.sasl)"
                ))
            }
            error => self.fault(error),
        }
    }

    async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        limit: usize,
    ) -> Result<Bytes, ConnectionError> {
        self.send(request, version).await?;
        match timeout(STEP, self.receive(limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.fault(&"no answer")),
        }
    }

    async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, ConnectionError> {
        self.ask(request, version, SMALL).await
    }

    /// Sends a request and waits for its answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) async fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        limit: usize,
    ) -> Result<R::Response, ConnectionError> {
        let mut body = self.exchange(request, version, limit).await?;
        decode::<R>(&mut body, version).map_err(|error| self.fault(&error))
    }

    /// ApiVersions; a broker that does not know version 3 answers so in version 0 (KIP-511).
    async fn learn_versions(&mut self) -> Result<(), ConnectionError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("zafka"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let asked = Instant::now();
        let mut body = self.exchange(&request, 3, SMALL).await?;
        let answered = asked.elapsed();
        if answered > FAR {
            // A proxy near by may have taken the connection.
            self.round_trip = self.round_trip.max(answered);
        }
        let unsupported = ResponseError::UnsupportedVersion.code().to_be_bytes();
        let response = if body.starts_with(&unsupported) {
            self.call(&ApiVersionsRequest::default(), 0).await?
        } else {
            decode::<ApiVersionsRequest>(&mut body, 3).map_err(|error| self.fault(&error))?
        };
        if let Some(code) = ResponseError::try_from_code(response.error_code) {
            return Err(self.fault(&format!("ApiVersions: {code}")));
        }
        let versions = response.api_keys.iter();
        self.versions =
            versions.map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    async fn authenticate(&mut self) -> Result<(), ConnectionError> {
        let Some(login) = self.login.clone() else { return Ok(()) };
        let token = login.token().await.map_err(|error| self.fault(&error))?;
        self.log_in(&login, token).await
    }

    async fn log_in(&mut self, login: &Login, token: Option<Token>) -> Result<(), ConnectionError> {
        let life = login.run(self, token).await?;
        let now = Instant::now();
        // Four fifths of it, as with tokens: the rest is for providers that are away for a moment.
        self.session = life.map(|life| SaslSession {
            renew_at: now + (life * 4 / 5).max(LEAST_SESSION),
            end: now + life,
        });
        Ok(())
    }
}
