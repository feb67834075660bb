//! A client other than the relay: the owner of a token, at the same brokers.

#![allow(clippy::disallowed_methods, reason = "a driver: it waits until the next token is due")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use zafka_oidc::Token;

use crate::cluster::Cluster;
use crate::config::{ClusterConfig, OAuthBearer, Sasl};
use crate::connection::{Connector, Refusals};
use crate::error::StartError;
use crate::security::{Bearer, MissingToken};

/// Time for the first look at a principal: the token, a connection.
const DEADLINE: Duration = Duration::from_secs(20);
/// Time between two tries while nobody answers.
const RETRY: Duration = Duration::from_secs(2);

/// The reason why it is not known what a client is authorized for, or whether it is taken at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// The provider gives no token for it: so the cluster was not asked.
    #[error("{reason}")]
    NoToken {
        /// The cause.
        reason: String,
        /// True if the provider has said no, and would say the same if it was asked again.
        is_refusal: bool,
    },
    /// The cluster does not take it, and would say the same if it was asked again.
    #[error("{0}")]
    Refused(String),
    /// No answer now.
    #[error("{0}")]
    Unanswered(String),
}

impl AuthorizationError {
    /// Returns true if somebody who decides has said no.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NoToken { is_refusal, .. } => *is_refusal,
            Self::Refused(_) => true,
            Self::Unanswered(_) => false,
        }
    }

    /// The servers' reasons. One that takes the token may be away.
    pub(crate) fn of(refusals: &Refusals) -> Self {
        match refusals.are_unanimous() {
            true => Self::Refused(refusals.to_string()),
            false => Self::Unanswered(refusals.to_string()),
        }
    }
}

impl From<MissingToken> for AuthorizationError {
    fn from(error: MissingToken) -> Self {
        Self::NoToken { reason: error.to_string(), is_refusal: error.is_refusal() }
    }
}

/// A client other than the relay: the owner of a token.
#[derive(Clone)]
pub struct Principal {
    /// The relay's configuration, but for the tokens.
    config: ClusterConfig,
    tokens: Arc<Bearer>,
    connector: Arc<Connector>,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principal").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The owner of these tokens, at the brokers and with the TLS of this cluster. Sends nothing.
    ///
    /// # Errors
    /// A certificate or a key cannot be used, or the settings of the tokens cannot.
    pub fn principal(&self, tokens: &OAuthBearer) -> Result<Principal, StartError> {
        self.principal_by(tokens, Bearer::new(tokens)?)
    }

    /// Makes the same as [`Self::principal`], with files of the tokens that are read once a token
    /// is asked for: what cannot be used is then told as a provider that is away. So it does not
    /// wait for a file system.
    ///
    /// # Errors
    /// A certificate or a key of the connections cannot be used.
    pub fn principal_unseen(&self, tokens: &OAuthBearer) -> Result<Principal, StartError> {
        self.principal_by(tokens, Bearer::unseen(tokens))
    }

    fn principal_by(
        &self,
        config_of: &OAuthBearer,
        tokens: Arc<Bearer>,
    ) -> Result<Principal, StartError> {
        let mut config = self.config().clone();
        config.security.sasl = Some(Sasl::OAuthBearer(config_of.clone()));
        let connector = self.own_connections()?.connector.with_tokens(Arc::clone(&tokens));
        Ok(Principal { config, tokens, connector })
    }
}

impl Principal {
    /// The cluster as this client meets it: what uses it shows this one's tokens.
    pub fn cluster(&self) -> Cluster {
        let (tokens, connector) = (Arc::clone(&self.tokens), Arc::clone(&self.connector));
        Cluster::of_principal(self.config.clone(), tokens, connector)
    }

    /// Keeps its token renewed, at four fifths of its life, and returns once the provider gives
    /// none any more or no broker takes it: the reason.
    pub async fn refused(&self) -> String {
        let mut was_taken = false;
        // Ends with the caller's patience: a provider or brokers that are away may come back.
        loop {
            let wait = match self.look(was_taken).await {
                Ok(token) => {
                    was_taken = true;
                    token.refresh_at.saturating_duration_since(Instant::now()).max(RETRY)
                }
                Err(error) if error.is_refusal() => return error.to_string(),
                Err(_) => RETRY,
            };
            sleep(wait).await;
        }
    }

    /// Renews the token if its time has come. Unless one `was_taken` before, sees whether a broker
    /// takes it.
    async fn look(&self, was_taken: bool) -> Result<Token, AuthorizationError> {
        let token = self.tokens.renewed().await?;
        if !was_taken {
            let connected = timeout(DEADLINE, self.connector.connect_any(self.servers())).await;
            let late = || AuthorizationError::Unanswered("no broker answers".to_owned());
            let connected = connected.map_err(|_| late())?;
            connected.map_err(|refusals| AuthorizationError::of(&refusals))?;
        }
        Ok(token)
    }

    /// Obtains the token before there is a connection, to tell who says no.
    pub(crate) async fn obtain_token(&self) -> Result<Token, AuthorizationError> {
        Ok(self.tokens.obtain().await?)
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(crate) fn servers(&self) -> &[String] {
        &self.config.bootstrap_servers
    }
}
