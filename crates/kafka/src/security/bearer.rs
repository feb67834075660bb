//! The one source of tokens of a client: our own connections and librdkafka's take them from it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zafka_oidc::{Token, TokenError, TokenProvider};

use crate::config::OAuthBearer;

/// Longest wait for a token: the provider has 10 s. A file that is shown to it may never come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The answer to a question; `None` while it is under way.
type TokenAnswer = Option<Result<Token, TokenError>>;

/// Gives tokens, and what goes beside them.
#[derive(Debug)]
pub(crate) struct Bearer {
    provider: TokenProvider,
    extensions: Vec<(String, String)>,
    /// The last question of a task. There is one at a time, so that one that hangs takes one
    /// thread.
    asked: Mutex<Option<watch::Receiver<TokenAnswer>>>,
}

/// The reason why there is no token to authenticate with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MissingToken {
    #[error(transparent)]
    Provider(#[from] TokenError),
    /// It is still asked for.
    #[error("no token within {0:?}: a file that it takes may be on a file system that hangs")]
    Late(Duration),
    /// Asking for it has broken off.
    #[error("asking for a token broke off")]
    BrokenOff,
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
        Ok(Self::of(TokenProvider::new(&config.tokens)?, config))
    }

    /// Makes the same as [`Self::new`], but that nothing was looked at. Does not block.
    pub(crate) fn unseen(config: &OAuthBearer) -> Arc<Self> {
        Self::of(TokenProvider::unseen(&config.tokens), config)
    }

    fn of(provider: TokenProvider, config: &OAuthBearer) -> Arc<Self> {
        let (extensions, asked) = (config.extensions.clone(), Mutex::default());
        Arc::new(Self { provider, extensions, asked })
    }

    /// Returns a token for connections, which do not wait for a provider while they need not. A
    /// provider that is asked keeps no thread of the runtime.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) async fn obtain(self: &Arc<Self>) -> Result<Token, MissingToken> {
        match self.provider.current() {
            Some(token) => Ok(token),
            None => self.ask(PATIENCE).await,
        }
    }

    /// The same, and the next one if the time of the last has come.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) async fn renewed(self: &Arc<Self>) -> Result<Token, MissingToken> {
        self.ask(PATIENCE).await
    }

    async fn ask(self: &Arc<Self>, patience: Duration) -> Result<Token, MissingToken> {
        let mut outcome = self.question();
        match timeout(patience, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => match &*outcome {
                Some(outcome) => Ok(outcome.clone()?),
                None => Err(MissingToken::BrokenOff),
            },
            Ok(Err(_)) => Err(MissingToken::BrokenOff),
            Err(_) => Err(MissingToken::Late(patience)),
        }
    }

    /// The question that is under way: a new one, if there is none.
    fn question(self: &Arc<Self>) -> watch::Receiver<TokenAnswer> {
        let mut asked = self.asked.lock();
        // Its thread has let go of the last one if that has ended.
        let under_way = asked.take_if(|asked| asked.has_changed().is_ok());
        let question = under_way.unwrap_or_else(|| {
            let (tell, outcome) = watch::channel(None);
            let bearer = Arc::clone(self);
            spawn_blocking(move || tell.send_replace(Some(bearer.provider.token())));
            outcome
        });
        asked.insert(question).clone()
    }

    /// Returns a token for the thread that keeps librdkafka supplied. Blocks while the provider
    /// answers.
    ///
    /// # Errors
    /// The reason why there is no token.
    pub(crate) fn token(&self) -> Result<Token, TokenError> {
        self.provider.token()
    }

    /// Does as [`Self::token`], but while there is one that lives.
    ///
    /// # Errors
    /// The reason why there is no token.
    #[cfg(test)]
    pub(crate) fn living(&self) -> Result<Token, TokenError> {
        self.provider.living()
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

#[cfg(test)]
mod tests {
    use std::fs::write;
    use std::process::Command;

    use zafka_oidc::TokenConfig;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_file_that_never_comes_keeps_one_thread_and_nobody_waits_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        // Whoever opens it waits for somebody who writes.
        let pipe = directory.path().join("token");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let tokens = TokenConfig::File(pipe.clone());
        let config = OAuthBearer { tokens, extensions: Vec::new() };
        let bearer = Bearer::unseen(&config);
        for _ in 0..3 {
            let late = bearer.ask(SHORT).await.unwrap_err();
            assert!(matches!(late, MissingToken::Late(_)) && !late.is_refusal(), "{late}");
        }
        assert_eq!(Arc::strong_count(&bearer), 2, "one has a thread");
        let written = spawn_blocking(move || write(pipe, "abc"));
        let token = bearer.ask(LONG).await.unwrap();
        written.await.unwrap().unwrap();
        assert_eq!(token.secret.expose(), "abc");
        assert_eq!(bearer.obtain().await.unwrap().secret.expose(), "abc", "it is kept");
    }
}
