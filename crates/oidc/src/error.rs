//! The errors of asking a provider.

use std::path::PathBuf;

/// The reason why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// `token_url` is not a URL.
    #[error("token_url: {reason}")]
    Url {
        /// The fault in it.
        reason: String,
    },
    /// The certificate authorities cannot be read.
    #[error("{}: {reason}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// The provider did not answer.
    #[error("no token from {url}: {reason}")]
    Unreachable {
        /// The token endpoint.
        url: String,
        /// The cause.
        reason: String,
    },
    /// The provider said no (RFC 6749 section 5.2).
    #[error("{url} refuses a token to client \"{client_id}\": {reason}")]
    Refused {
        /// The token endpoint.
        url: String,
        /// The client that asked.
        client_id: String,
        /// The provider's `error` and `error_description`.
        reason: String,
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
