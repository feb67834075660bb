//! A client's proof of who it is (RFC 6749 section 2.3, 7521, 7523, 8705).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};

use crate::config::{ClientAuthentication, ClientCertificate};
use crate::error::TokenError;
use crate::files;
use crate::jwt::{self, Claims};
use crate::key::SigningKey;
use crate::secret::Secret;

const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The life of an assertion by which a client shows who it is: it is used at once. Some providers
/// take no more than two minutes.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// Sees whether the key that signs can be used.
pub(crate) fn look(authentication: &ClientAuthentication) -> Result<(), TokenError> {
    match authentication {
        ClientAuthentication::Key { key, .. } => {
            SigningKey::read(key).map(drop).map_err(Into::into)
        }
        _ => Ok(()),
    }
}

/// The certificate that is shown by TLS.
pub(crate) fn certificate(authentication: &ClientAuthentication) -> Option<&ClientCertificate> {
    match authentication {
        ClientAuthentication::Certificate(certificate) => Some(certificate),
        _ => None,
    }
}

/// Reads or signs what one request shows. `audience`: whom it is signed for, if the key does not
/// say.
pub(crate) fn proof(
    authentication: &ClientAuthentication,
    id: Option<&str>,
    audience: &str,
    now: Duration,
) -> Result<Option<Secret>, TokenError> {
    Ok(match authentication {
        ClientAuthentication::None | ClientAuthentication::Certificate(_) => None,
        ClientAuthentication::Secret(secret) => {
            Some(secret.read(files::secret)?.ok_or(TokenError::TakenAway)?)
        }
        ClientAuthentication::AssertionFile(path) => Some(files::token(path)?),
        ClientAuthentication::Key { key, audience: own } => {
            let id = id.unwrap_or_default();
            let claims = Claims {
                issuer: id,
                subject: id,
                audience: own.as_deref().unwrap_or(audience),
                life: ASSERTION_LIFE,
                others: &[],
            };
            let signed = jwt::assertion(&claims, &SigningKey::read(key)?, now);
            Some(signed.map_err(|reason| TokenError::Signature { reason })?)
        }
    })
}

/// Appends the proof to a form. Returns the credentials of the header `Authorization`, by the
/// scheme `Basic`, if it belongs there.
pub(crate) fn append(
    form: &mut Serializer<'_, String>,
    authentication: &ClientAuthentication,
    id: Option<&str>,
    shown: Option<&Secret>,
) -> Option<Secret> {
    let shown = shown.map(Secret::expose).unwrap_or_default();
    match authentication {
        // RFC 6749 section 2.3.1: both are encoded as in a form before they are joined.
        ClientAuthentication::Secret(_) => {
            let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let both = format!("{}:{}", encode(id.unwrap_or_default()), encode(shown));
            return Some(Secret::new(STANDARD.encode(both)));
        }
        ClientAuthentication::Key { .. } | ClientAuthentication::AssertionFile(_) => {
            append_id(form, id);
            form.append_pair("client_assertion_type", CLIENT_ASSERTION_TYPE)
                .append_pair("client_assertion", shown);
        }
        // RFC 8705 section 2: the id says whose certificate it must be.
        ClientAuthentication::Certificate(_) | ClientAuthentication::None => append_id(form, id),
    }
    None
}

fn append_id(form: &mut Serializer<'_, String>, id: Option<&str>) {
    if let Some(id) = id {
        form.append_pair("client_id", id);
    }
}
