//! The errors of asking a provider.

use std::fmt::Write;

use crate::files::FileFault;
use crate::http::HttpError;

/// The reason why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// `token_url` is not a URL.
    #[error("token_url: {reason}")]
    Url {
        /// The fault in it.
        reason: String,
    },
    /// A file with a token, a secret, a key or certificates cannot be used.
    #[error(transparent)]
    File(#[from] FileFault),
    /// The system gives no random numbers, or a key does not sign.
    #[error("an assertion cannot be signed: {reason}")]
    Signature {
        /// The cause.
        reason: String,
    },
    /// The secret or the token that was to be shown has been taken away by its owner.
    #[error("what a token is granted for was taken away")]
    TakenAway,
    /// The provider did not answer.
    #[error("no token from {url}: {reason}")]
    Unreachable {
        /// The token endpoint.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The provider said no (RFC 6749 section 5.2).
    #[error("{url} refuses a token{}: {reason}{}", to(client_id.as_deref()), after(shown))]
    Refused {
        /// The token endpoint.
        url: String,
        /// The client that asked, if it said its id.
        client_id: Option<String>,
        /// The provider's `error` and `error_description`.
        reason: String,
        /// The files of what was shown to it, with what is known to be wrong with them.
        shown: Vec<String>,
    },
    /// The answer is not one of a token endpoint.
    #[error("{url} answers with no token: {reason}")]
    Answer {
        /// The token endpoint.
        url: String,
        /// The fault in it.
        reason: String,
    },
}

impl TokenError {
    /// Returns true if the provider has said no, for what was asked of it, or if there is nothing
    /// to ask it with any more: asked again it would say the same.
    pub fn is_refusal(&self) -> bool {
        let reason = match self {
            Self::TakenAway => return true,
            Self::Refused { reason, .. } => reason,
            _ => return false,
        };
        let error = reason.split(':').next().unwrap_or_default();
        // RFC 6749 section 4.1.2.1; some providers answer so at the token endpoint too.
        !["server_error", "temporarily_unavailable", "slow_down"].contains(&error)
    }

    /// An error of the way to `url`.
    pub(crate) fn http(url: &str, error: HttpError) -> Self {
        let url = url.to_owned();
        match error {
            HttpError::Url(reason) => Self::Url { reason },
            HttpError::File(fault) => Self::File(fault),
            HttpError::Unreachable(reason) => Self::Unreachable { url, reason },
            HttpError::TooLarge => Self::Answer { url, reason: error.to_string() },
        }
    }
}

fn to(client_id: Option<&str>) -> String {
    client_id.map(|id| format!(" to client \"{id}\"")).unwrap_or_default()
}

fn after(shown: &[String]) -> String {
    let mut text = String::new();
    for (at, file) in shown.iter().enumerate() {
        let before = if at == 0 { " (it was shown" } else { ", and" };
        let _ = write!(text, "{before} {file}");
    }
    if !text.is_empty() {
        text.push(')');
    }
    text
}
