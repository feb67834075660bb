//! The one source of tokens of a client: our own connections and librdkafka's take them from it.

use std::sync::Arc;

use tokio::task::{JoinError, spawn_blocking};
use zafka_oidc::{Token, TokenError, TokenProvider};

use crate::config::OAuthBearer;

/// Gives tokens, and what goes beside them.
#[derive(Debug)]
pub(crate) struct Bearer {
    provider: TokenProvider,
    extensions: Vec<(String, String)>,
}

/// The reason why there is no token to authenticate with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MissingToken {
    #[error(transparent)]
    Provider(#[from] TokenError),
    /// Asking for it has broken off.
    #[error(transparent)]
    BrokenOff(#[from] JoinError),
}

impl MissingToken {
    /// Returns true if the provider has said no.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Provider(error) if error.is_refusal())
    }
}

impl Bearer {
    /// Checks the settings; asks no provider.
    ///
    /// # Errors
    /// A URL or a file that cannot be used.
    pub(crate) fn new(config: &OAuthBearer) -> Result<Arc<Self>, TokenError> {
        let provider = TokenProvider::new(&config.tokens)?;
        Ok(Arc::new(Self { provider, extensions: config.extensions.clone() }))
    }

    /// For connections, which do not wait for a provider while they need not.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) fn living(&self) -> Result<Token, TokenError> {
        self.provider.living()
    }

    /// The same for a task: a provider that is asked keeps no thread of the runtime.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) async fn obtain(self: &Arc<Self>) -> Result<Token, MissingToken> {
        let bearer = Arc::clone(self);
        Ok(spawn_blocking(move || bearer.living()).await??)
    }

    /// The same, and the next one if the time of the last has come.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) async fn renewed(self: &Arc<Self>) -> Result<Token, MissingToken> {
        let bearer = Arc::clone(self);
        Ok(spawn_blocking(move || bearer.token()).await??)
    }

    /// For the thread that keeps librdkafka supplied. Blocks while the provider answers.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) fn token(&self) -> Result<Token, TokenError> {
        self.provider.token()
    }

    /// A name for the principal until the broker has read the token.
    pub(crate) fn principal(&self) -> &str {
        self.provider.config().client_id().unwrap_or("zafka")
    }

    /// SASL extensions (KIP-342).
    pub(crate) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }
}
