//! Questions to a provider whether a token is active (token introspection, RFC 7662).

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use form_urlencoded::Serializer;
use serde_json::{Map, Value};

use crate::answer::{self, Fault};
use crate::client;
use crate::config::ClientAuthentication;
use crate::error::TokenError;
use crate::http::{Http, HttpError, without_query};
use crate::secret::Secret;

/// The client that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionConfig {
    /// The client's id.
    pub client_id: Option<String>,
    /// The proof of who the client is: a provider answers nobody else (RFC 7662 section 2.1).
    pub authentication: ClientAuthentication,
    /// `aud` of an assertion that the client signs, if its key does not say.
    pub audience: String,
    /// Certificate authorities to trust instead of the system's (PEM).
    pub ca: Option<PathBuf>,
}

/// The reason why it is not known whether a token is active.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IntrospectionError {
    /// The client cannot show who it is.
    #[error(transparent)]
    Client(#[from] TokenError),
    /// The provider does not answer, or not whether the token is active.
    #[error("{url}: {reason}")]
    Endpoint {
        /// The endpoint, without its query.
        url: String,
        /// The fault.
        reason: String,
    },
}

/// Asks whether tokens are active.
#[derive(Debug)]
pub struct Introspection {
    config: IntrospectionConfig,
    http: Http,
}

impl Introspection {
    /// Asks nobody, and reads no file yet.
    pub fn new(config: IntrospectionConfig) -> Self {
        let certificate = client::certificate(&config.authentication);
        let http = Http::unseen(config.ca.as_deref(), certificate);
        Self { config, http }
    }

    /// Sees whether the keys and certificates, and a URL of the provider, can be used; asks nobody.
    ///
    /// # Errors
    /// A URL or a file that cannot be used.
    pub fn check(&self, url: &str) -> Result<(), TokenError> {
        client::look(&self.config.authentication)?;
        self.http.check(url).map_err(|error| TokenError::http(&without_query(url), error))
    }

    /// Asks an endpoint whether a token is active. Blocks for 10 s at most.
    ///
    /// # Errors
    /// That is not known.
    pub fn is_active(&self, url: &str, token: &Secret) -> Result<bool, IntrospectionError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shown = self.shown(now)?;
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token.expose()).append_pair("token_type_hint", "access_token");
        let IntrospectionConfig { client_id, authentication, .. } = &self.config;
        let id = client_id.as_deref();
        let basic = client::append(&mut form, authentication, id, shown.as_ref());
        let fault = |reason| IntrospectionError::Endpoint { url: without_query(url), reason };
        let answer = self.http.post_form(url, basic.as_ref(), &Secret::new(form.finish()));
        let answer = answer.map_err(|error| match error {
            HttpError::File(file) => IntrospectionError::Client(TokenError::File(file)),
            error => fault(error.to_string()),
        })?;
        let secrets = [Some(token), shown.as_ref(), basic.as_ref()];
        let secrets: Vec<_> = secrets.into_iter().flatten().collect();
        let body = answer::object(answer.status, &answer.body, &secrets);
        let body = body.map_err(|error| match error {
            Fault::Answer(reason) => fault(reason),
            Fault::Refused(words) => fault(format!("refuses to answer: {words}")),
        })?;
        active(&body).map_err(|reason| fault(reason.to_owned()))
    }

    /// The client's proof for this one question.
    fn shown(&self, now: Duration) -> Result<Option<Secret>, TokenError> {
        let IntrospectionConfig { client_id, authentication, audience, .. } = &self.config;
        client::proof(authentication, client_id.as_deref(), audience, now)
    }
}

/// Reads whether a token is active (RFC 7662 section 2.2). What is no clear answer is none.
fn active(answer: &Map<String, Value>) -> Result<bool, &'static str> {
    match answer.get("active") {
        Some(Value::Bool(active)) => Ok(*active),
        Some(_) => Err("\"active\" is neither true nor false"),
        None => Err("\"active\" is missing"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_but_a_clear_answer_is_one() {
        let neither = Err("\"active\" is neither true nor false");
        for (answer, found) in [
            (json!({ "active": true }), Ok(true)),
            (json!({ "active": false }), Ok(false)),
            (json!({ "active": true, "sub": "x", "exp": 1 }), Ok(true)),
            (json!({ "active": "true" }), neither),
            (json!({ "active": "false" }), neither),
            (json!({ "active": 1 }), neither),
            (json!({ "active": null }), neither),
            (json!({ "Active": true }), Err("\"active\" is missing")),
            (json!({}), Err("\"active\" is missing")),
        ] {
            assert_eq!(active(answer.as_object().unwrap()), found, "{answer}");
        }
    }
}
