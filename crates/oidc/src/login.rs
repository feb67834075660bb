//! A user's login by the device flow, over the net.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::answer::{self, Fault};
use crate::device::{self, DeviceCode, LoginTokens, Polled};
use crate::error::TokenError;
use crate::http::{Http, HttpError, without_query};
use crate::secret::Secret;

/// The reason why a login cannot begin or continue.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoginError {
    /// The issuer cannot be asked without encryption.
    #[error("issuer {0:?}: allowed: https://HOST[:PORT]/PATH (http only for a loopback address)")]
    Issuer(String),
    /// Its discovery document is not one.
    #[error("{url}: {reason}")]
    Discovery {
        /// The address of the document.
        url: String,
        /// The fault in it.
        reason: String,
    },
    /// The provider did not do as it was asked.
    #[error(transparent)]
    Provider(#[from] TokenError),
}

impl LoginError {
    /// Returns true if the provider said no: asking again does not help.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Provider(error) if error.is_refusal())
    }
}

/// A public client of a provider (RFC 6749 section 2.1): it has an id, and no secret.
#[derive(Debug)]
pub struct LoginClient {
    http: Http,
    client_id: String,
    token_url: String,
    device_url: Option<String>,
    discovery_url: String,
}

impl LoginClient {
    /// Asks an issuer for its endpoints (OpenID Connect Discovery 1.0, RFC 8414). Blocks for 10 s
    /// at most, as each request.
    ///
    /// # Errors
    /// The issuer does not name them.
    pub fn discover(issuer: &str, client_id: &str, ca: Option<&Path>) -> Result<Self, LoginError> {
        if !is_safe(issuer) {
            return Err(LoginError::Issuer(issuer.to_owned()));
        }
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let wrong = |reason: String| LoginError::Discovery { url: url.clone(), reason };
        let http_error = |error: HttpError| match error {
            HttpError::File(fault) => LoginError::Provider(TokenError::File(fault)),
            other => wrong(other.to_string()),
        };
        let http = Http::new(&url, ca, None).map_err(http_error)?;
        let document = http.get(&url, None).map_err(http_error)?;
        let document = answer::object(document.status, &document.body, &[]);
        let document = document.map_err(|(Fault::Refused(reason) | Fault::Answer(reason))| {
            wrong(format!("no discovery document: {reason}"))
        })?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        if text("issuer") != Some(issuer) {
            let named = text("issuer").map(|name| answer::told(name, &[]));
            return Err(wrong(format!("the document is about the issuer {named:?}")));
        }
        let endpoint = |name: &str| match text(name) {
            Some(found) if is_safe(found) => Ok(Some(found.to_owned())),
            Some(found) => {
                let found = answer::told(found, &[]);
                Err(wrong(format!("{name} {found:?} is not https")))
            }
            None => Ok(None),
        };
        let device_url = endpoint("device_authorization_endpoint")?;
        let token_url = endpoint("token_endpoint")?;
        let token_url = token_url.ok_or_else(|| wrong("no token_endpoint in it".to_owned()))?;
        let client_id = client_id.to_owned();
        Ok(Self { http, client_id, token_url, device_url, discovery_url: url })
    }

    /// Asks for a code.
    ///
    /// # Errors
    /// The provider gives none.
    pub fn device_code(&self, scope: &[String]) -> Result<DeviceCode, LoginError> {
        let Some(url) = &self.device_url else {
            let reason = "no device_authorization_endpoint in it: the provider has no device flow";
            let (url, reason) = (self.discovery_url.clone(), reason.to_owned());
            return Err(LoginError::Discovery { url, reason });
        };
        let (status, body) = self.post(url, &device::code_form(&self.client_id, scope))?;
        device::read_code(status, &body).map_err(|fault| self.fault(url, fault))
    }

    /// Asks whether the user has let the device in.
    ///
    /// # Errors
    /// The login cannot continue.
    pub fn poll(&self, code: &DeviceCode) -> Result<Polled, LoginError> {
        let url = &self.token_url;
        match self.post(url, &device::poll_form(&self.client_id, code)) {
            Ok((status, body)) => {
                device::read_poll(status, &body, code).map_err(|fault| self.fault(url, fault))
            }
            Err(LoginError::Provider(TokenError::Unreachable { .. })) => Ok(Polled::Away),
            Err(error) => Err(error),
        }
    }

    /// Exchanges a refresh token for the next tokens (RFC 6749 section 6).
    ///
    /// # Errors
    /// The provider gives none.
    pub fn refresh(&self, refresh: &Secret) -> Result<LoginTokens, LoginError> {
        let url = &self.token_url;
        let (status, body) = self.post(url, &device::refresh_form(&self.client_id, refresh))?;
        device::read_tokens(status, &body, &[refresh]).map_err(|fault| self.fault(url, fault))
    }

    fn post(&self, url: &str, form: &Secret) -> Result<(u16, Vec<u8>), LoginError> {
        let answer = self.http.post_form(url, None, form);
        let answer = answer.map_err(|error| TokenError::http(&without_query(url), error))?;
        Ok((answer.status, answer.body))
    }

    fn fault(&self, url: &str, fault: Fault) -> LoginError {
        let url = without_query(url);
        LoginError::Provider(match fault {
            Fault::Answer(reason) => TokenError::Answer { url, reason },
            Fault::Refused(reason) => {
                let client_id = Some(self.client_id.clone());
                TokenError::Refused { url, client_id, reason, shown: Vec::new() }
            }
        })
    }
}

/// Returns true if the way is private: https, or http within this machine.
fn is_safe(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains(['@', '\\']) {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    scheme == "https" || scheme == "http" && is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_along() {
        for (url, safe) in [
            ("https://id.example.com/realms/edge", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://[::1]:8080/x", true),
            ("http://localhost/x", true),
            ("http://id.example.com/x", false),
            ("http://localhost@id.example.com/x", false),
            ("http://localhost.example.com", false),
            ("ftp://127.0.0.1/", false),
            ("https://", false),
            ("id", false),
        ] {
            assert_eq!(is_safe(url), safe, "{url}");
        }
    }
}
