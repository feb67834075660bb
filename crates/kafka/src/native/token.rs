//! Tokens for a client's connections.

use std::ffi::{CStr, CString, NulError};

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

/// The reason why a client does not take a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    #[error("a token or extension holds a NUL")]
    Nul(#[from] NulError),
    /// librdkafka's text.
    #[error("{0}")]
    Refused(String),
}

/// Gives the client a token for its next connections, and for those that are open (KIP-368).
/// `expires_ms`: the end of its life, in ms since the epoch.
pub(crate) fn set_token<C: ClientContext>(
    client: &Client<C>,
    secret: &str,
    expires_ms: i64,
    principal: &str,
    extensions: &[(String, String)],
) -> Result<(), TokenRefusal> {
    let (secret, principal) = (CString::new(secret)?, CString::new(principal)?);
    let mut pairs = Vec::with_capacity(extensions.len() * 2);
    for (name, value) in extensions {
        pairs.push(CString::new(name.as_str())?);
        pairs.push(CString::new(value.as_str())?);
    }
    let mut pointers: Vec<_> = pairs.iter().map(|text| text.as_ptr()).collect();
    let mut error = [0; 512];
    // SAFETY: all texts are C strings that live until after the call, which copies them; the array
    // holds `pointers.len()` of them; the error is written as a C string within its 512 bytes.
    unsafe {
        let code = sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            secret.as_ptr(),
            expires_ms,
            principal.as_ptr(),
            pointers.as_mut_ptr(),
            pointers.len(),
            error.as_mut_ptr(),
            error.len(),
        );
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            Ok(())
        } else {
            let text = CStr::from_ptr(error.as_ptr()).to_string_lossy();
            Err(TokenRefusal::Refused(text.into_owned()))
        }
    }
}
