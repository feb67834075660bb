//! SASL over Kafka's own requests (KIP-43, KIP-152): SaslHandshake names the mechanism,
//! SaslAuthenticate carries its messages.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::task::spawn_blocking;
use zafka_oidc::Token;

use super::scram::{Hash, Scram};
use super::{Connection, ConnectionError};
use crate::config::{Credentials, Sasl};
use crate::security::{Bearer, MissingToken};

/// The proof of a client's identity.
pub(super) enum Login {
    Plain(Credentials),
    Scram(Hash, Credentials),
    OAuthBearer(Arc<Bearer>),
    /// Tokens are wanted and there is no provider: a mistake of ours.
    NoTokens,
}

impl Login {
    pub(super) fn new(sasl: &Sasl, tokens: Option<&Arc<Bearer>>) -> Self {
        match (sasl, tokens) {
            (Sasl::Plain(credentials), _) => Self::Plain(credentials.clone()),
            (Sasl::ScramSha256(credentials), _) => Self::Scram(Hash::Sha256, credentials.clone()),
            (Sasl::ScramSha512(credentials), _) => Self::Scram(Hash::Sha512, credentials.clone()),
            (Sasl::OAuthBearer(_), Some(tokens)) => Self::OAuthBearer(Arc::clone(tokens)),
            (Sasl::OAuthBearer(_), None) => Self::NoTokens,
        }
    }

    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(Hash::Sha256, _) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512, _) => "SCRAM-SHA-512",
            Self::OAuthBearer(_) | Self::NoTokens => "OAUTHBEARER",
        }
    }

    /// The token, if one is wanted. Only this asks another server than the broker.
    pub(super) async fn token(&self) -> Result<Option<Token>, MissingToken> {
        let Self::OAuthBearer(tokens) = self else { return Ok(None) };
        tokens.obtain().await.map(Some)
    }

    /// Authenticates; returns how long that is valid, if the broker says so (KIP-368).
    pub(super) async fn run(
        &self,
        connection: &mut Connection,
        token: Option<Token>,
    ) -> Result<Option<Duration>, ConnectionError> {
        let mechanism = self.mechanism();
        let refused = |connection: &Connection, reason: &dyn Display| {
            connection.fault(&format!("SASL {mechanism}: {reason}")).refused()
        };
        let request =
            SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let answer = connection.call(&request, 1).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let has: Vec<_> = answer.mechanisms.iter().map(|name| name.to_string()).collect();
            return Err(refused(connection, &format!("{code}: the broker has {}", has.join(", "))));
        }
        match (self, token) {
            (Self::Plain(credentials), _) => {
                let (_, life) = connection.step(mechanism, plain(credentials)).await?;
                Ok(life)
            }
            (Self::Scram(hash, credentials), _) => {
                let mut scram = Scram::new(*hash, credentials);
                let (challenge, _) = connection.step(mechanism, scram.first()).await?;
                // Thousands of rounds of a hash.
                let answered =
                    spawn_blocking(move || scram.answer(&challenge).map(|proof| (proof, scram)))
                        .await;
                let answered = answered.map_err(|error| connection.fault(&error))?;
                let (proof, scram) = answered.map_err(|error| refused(connection, &error))?;
                let (last, life) = connection.step(mechanism, proof).await?;
                scram.verify(&last).map_err(|error| refused(connection, &error))?;
                Ok(life)
            }
            (Self::OAuthBearer(tokens), Some(token)) => {
                let (answer, life) = connection
                    .step(mechanism, oauthbearer(token.secret.expose(), tokens.extensions()))
                    .await?;
                if answer.is_empty() {
                    return Ok(life);
                }
                // A failure's details come as an answer, and the failure once they are taken note
                // of (RFC 7628).
                let details = String::from_utf8_lossy(&answer).into_owned();
                match connection.step(mechanism, Bytes::from_static(b"\x01")).await {
                    Ok(_) | Err(_) => Err(refused(connection, &details)),
                }
            }
            (Self::OAuthBearer(_) | Self::NoTokens, _) => {
                Err(refused(connection, &"nobody gives tokens"))
            }
        }
    }
}

impl Connection {
    async fn step(
        &mut self,
        mechanism: &str,
        message: Bytes,
    ) -> Result<(Bytes, Option<Duration>), ConnectionError> {
        let version = self.version(ApiKey::SaslAuthenticate, 0..=2);
        let version = version.ok_or_else(|| self.fault(&"no SaslAuthenticate (Kafka 1.0)"))?;
        let request = SaslAuthenticateRequest::default().with_auth_bytes(message);
        let answer = self.call(&request, version).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let message = answer
                .error_message
                .map_or_else(|| code.to_string(), |message| message.to_string());
            let fault = self.fault(&format!("SASL {mechanism}: {message}"));
            let is_refusal = code == ResponseError::SaslAuthenticationFailed;
            return Err(if is_refusal { fault.refused() } else { fault });
        }
        let life = u64::try_from(answer.session_lifetime_ms).ok().filter(|life| *life > 0);
        Ok((answer.auth_bytes, life.map(Duration::from_millis)))
    }
}

/// RFC 4616, without an authorization identity.
fn plain(credentials: &Credentials) -> Bytes {
    [b"\0", credentials.username.as_bytes(), b"\0", credentials.password.expose().as_bytes()]
        .concat()
        .into()
}

/// RFC 7628 section 3.1, with Kafka's extensions (KIP-342).
fn oauthbearer(token: &str, extensions: &[(String, String)]) -> Bytes {
    let mut message = format!("n,,\x01auth=Bearer {token}\x01");
    for (name, value) in extensions {
        message.extend([name, "=", value, "\x01"]);
    }
    message.push('\x01');
    message.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn messages_are_as_their_specifications_have_them() {
        let credentials =
            Credentials { username: "tim".to_owned(), password: Secret::new("tanstaaf") };
        assert_eq!(plain(&credentials), "\0tim\0tanstaaf");
        assert_eq!(oauthbearer("t", &[]), "n,,\x01auth=Bearer t\x01\x01");
        let extensions = [("logicalCluster".to_owned(), "c".to_owned())];
        assert_eq!(
            oauthbearer("t", &extensions),
            "n,,\x01auth=Bearer t\x01logicalCluster=c\x01\x01"
        );
    }
}
