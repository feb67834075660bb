//! A broker that answers by a script.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use openssl::ssl::{Ssl, SslContext};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_openssl::SslStream;

/// A request, its header taken off.
pub(crate) struct Asked {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    body: Bytes,
}

impl Asked {
    pub(crate) fn read<R: Request>(&self) -> R {
        assert_eq!(self.key as i16, R::KEY);
        R::decode(&mut self.body.clone(), self.version).unwrap()
    }

    /// The frame of the answer to it.
    pub(crate) fn answer<R: Request>(&self, response: &R::Response) -> Vec<u8> {
        self.answer_in::<R>(self.version, response)
    }

    pub(crate) fn answer_in<R: Request>(&self, version: i16, response: &R::Response) -> Vec<u8> {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut frame, R::Response::header_version(version)).unwrap();
        response.encode(&mut frame, version).unwrap();
        let size = u32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&size.to_be_bytes());
        frame.to_vec()
    }
}

/// The address of a broker of one connection after the other. Each request is answered with the
/// bytes that `script` gives; none of them: the connection is closed.
pub(crate) async fn broker(script: impl FnMut(&Asked) -> Vec<u8> + Send + 'static) -> String {
    on("127.0.0.1:0", None, script).await.0
}

/// Starts the same as [`broker`] at this address, and with TLS.
pub(crate) async fn on(
    address: &str,
    tls: Option<SslContext>,
    mut script: impl FnMut(&Asked) -> Vec<u8> + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            match &tls {
                None => serve(stream, &mut script).await,
                Some(tls) => {
                    let mut stream = SslStream::new(Ssl::new(tls).unwrap(), stream).unwrap();
                    match Pin::new(&mut stream).accept().await {
                        Ok(()) => serve(stream, &mut script).await,
                        Err(error) => println!("refused: {error}"),
                    }
                }
            }
        }
    });
    (address, serving)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &mut impl FnMut(&Asked) -> Vec<u8>,
) {
    while let Ok(size) = stream.read_u32().await {
        let mut request = vec![0; size as usize];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let answer = script(&read(request.into()));
        if answer.is_empty() || stream.write_all(&answer).await.is_err() {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

fn read(mut request: Bytes) -> Asked {
    let key = ApiKey::try_from(i16::from_be_bytes([request[0], request[1]])).unwrap();
    let version = i16::from_be_bytes([request[2], request[3]]);
    let header = RequestHeader::decode(&mut request, key.request_header_version(version)).unwrap();
    Asked { key, version, correlation: header.correlation_id, body: request }
}

/// The versions of a broker that only knows what is needed to authenticate, and Metadata.
pub(crate) fn api_versions() -> ApiVersionsResponse {
    let keys =
        [(ApiKey::ApiVersions, 0, 3), (ApiKey::SaslAuthenticate, 0, 2), (ApiKey::Metadata, 0, 12)];
    let keys = keys.map(|(key, least, most)| {
        ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(least)
            .with_max_version(most)
    });
    ApiVersionsResponse::default().with_api_keys(keys.into())
}

/// The answer to ApiVersions, and to a handshake for `mechanism`; `authenticate` gives that to each
/// message. The messages are those of one connection, or of one that is authenticated again.
pub(crate) fn sasl(
    mechanism: &'static str,
    mut authenticate: impl FnMut(Bytes) -> SaslAuthenticateResponse + Send + 'static,
) -> impl FnMut(&Asked) -> Vec<u8> + Send + 'static {
    move |asked| match asked.key {
        ApiKey::ApiVersions => asked.answer::<ApiVersionsRequest>(&api_versions()),
        ApiKey::SaslHandshake => {
            let wanted = asked.read::<SaslHandshakeRequest>().mechanism;
            let code = ResponseError::UnsupportedSaslMechanism.code();
            let response = SaslHandshakeResponse::default()
                .with_error_code(if *wanted == *mechanism { 0 } else { code })
                .with_mechanisms(vec![StrBytes::from_static_str(mechanism)]);
            asked.answer::<SaslHandshakeRequest>(&response)
        }
        ApiKey::SaslAuthenticate => {
            let message = asked.read::<SaslAuthenticateRequest>().auth_bytes;
            asked.answer::<SaslAuthenticateRequest>(&authenticate(message))
        }
        key => panic!("{key:?} is not in the script"),
    }
}

/// Counts, for scripts that are asked what they were asked.
pub(crate) type Count = Arc<std::sync::atomic::AtomicUsize>;
