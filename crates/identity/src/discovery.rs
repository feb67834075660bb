//! A provider's discovery document (OpenID Connect Discovery 1.0), and how long its keys hold.

use std::time::Duration;

use serde_json::Value;

use crate::token::strict_object;

/// The reason why the document does not give an address at an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// No JSON object in which each name stands once.
    #[error("the discovery document is no plain JSON object")]
    Malformed,
    /// It is about another issuer.
    #[error("the discovery document is about the issuer {0:?}")]
    Issuer(String),
    /// It does not name them.
    #[error("the discovery document has no jwks_uri")]
    NoKeys,
    /// Its keys are somewhere else.
    #[error("jwks_uri {0:?} is not on the issuer's host; set jwks_url if that is right")]
    Elsewhere(String),
    /// It does not say where tokens are asked about.
    #[error("the discovery document has no introspection_endpoint; set introspection.url")]
    NoIntrospection,
    /// Tokens are asked about somewhere else.
    #[error(
        "introspection_endpoint {0:?} is not on the issuer's host; set introspection.url if that \
         is right"
    )]
    IntrospectionElsewhere(String),
}

/// Returns the address of an issuer's discovery document.
pub fn discovery_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

/// Reads the address of the keys of `issuer`: on its own host.
///
/// # Errors
/// The document is none, is another issuer's, or names keys on another host.
pub fn keys_url(document: &[u8], issuer: &str) -> Result<String, DiscoveryError> {
    let url = endpoint(document, issuer, "jwks_uri")?.ok_or(DiscoveryError::NoKeys)?;
    if is_at(&url, issuer) { Ok(url) } else { Err(DiscoveryError::Elsewhere(cut(&url))) }
}

/// Reads where tokens of `issuer` are asked about (RFC 7662, RFC 8414): on its own host, for it is
/// shown tokens and a client's secret.
///
/// # Errors
/// A document that is none, of somebody else, or that leads somewhere else.
pub fn introspection_url(document: &[u8], issuer: &str) -> Result<String, DiscoveryError> {
    let url = endpoint(document, issuer, "introspection_endpoint")?;
    let url = url.ok_or(DiscoveryError::NoIntrospection)?;
    match is_at(&url, issuer) {
        true => Ok(url),
        false => Err(DiscoveryError::IntrospectionElsewhere(cut(&url))),
    }
}

/// Reads one address of a document about `issuer`; `None` if it has none of that name.
fn endpoint(document: &[u8], issuer: &str, name: &str) -> Result<Option<String>, DiscoveryError> {
    let document = strict_object(document).ok_or(DiscoveryError::Malformed)?;
    match document.get("issuer") {
        Some(Value::String(name)) if name == issuer => {}
        Some(Value::String(name)) => return Err(DiscoveryError::Issuer(cut(name))),
        _ => return Err(DiscoveryError::Malformed),
    }
    Ok(document.get(name).and_then(Value::as_str).map(str::to_owned))
}

/// Returns true if a URL is on the issuer's host.
fn is_at(url: &str, issuer: &str) -> bool {
    origin(url).is_some_and(|found| origin(issuer) == Some(found))
}

/// Returns the time for which an answer holds by its header `Cache-Control` (RFC 9111 section
/// 5.2.2).
pub fn max_age(cache_control: &str) -> Option<Duration> {
    let mut age = None;
    for directive in cache_control.split(',') {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs).or(age);
        }
    }
    age
}

/// Scheme, host and port of a URL without tricks; `None` for any other.
fn origin(url: &str) -> Option<(&str, String, u16)> {
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    // Colons inside brackets are of an IPv6 address.
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority.get(after_host..)?.rfind(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(after_host + colon);
            (host, port.get(1..)?.parse().ok()?)
        }
        None => (authority, port),
    };
    Some((scheme, host.to_ascii_lowercase(), port))
}

/// A text of a stranger, for an error.
fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://id.example.com/realms/edge";

    fn document(issuer: &str, url: &str) -> String {
        serde_json::json!({ "issuer": issuer, "jwks_uri": url, "x": [1] }).to_string()
    }

    #[test]
    fn where_the_keys_are() {
        for fine in [
            "https://id.example.com/realms/edge/certs",
            "https://ID.example.com:443/keys?a=b",
            "https://id.example.com",
        ] {
            let found = keys_url(document(ISSUER, fine).as_bytes(), ISSUER);
            assert_eq!(found.as_deref(), Ok(fine));
        }
        for elsewhere in [
            "http://id.example.com/keys",
            "https://id.example.com:8443/keys",
            "https://id.example.com.evil.com/keys",
            "https://evil.com/id.example.com",
            "https://id.example.com@evil.com/keys",
            "https://evil.com\\@id.example.com/keys",
            "https://id.example.com /keys",
            "file:///etc/passwd",
            "//id.example.com/keys",
            "",
        ] {
            let found = keys_url(document(ISSUER, elsewhere).as_bytes(), ISSUER);
            assert_eq!(found, Err(DiscoveryError::Elsewhere(elsewhere.to_owned())));
        }
        let slash = format!("{ISSUER}/");
        for (text, error) in [
            (document(&slash, "https://id.example.com"), DiscoveryError::Issuer(slash.clone())),
            (format!("{{\"issuer\":{ISSUER:?}}}"), DiscoveryError::NoKeys),
            (format!("{{\"issuer\":{ISSUER:?},\"jwks_uri\":1}}"), DiscoveryError::NoKeys),
            (format!("{{\"issuer\":{ISSUER:?},\"issuer\":1}}"), DiscoveryError::Malformed),
            ("{}".to_owned(), DiscoveryError::Malformed),
            ("<html>".to_owned(), DiscoveryError::Malformed),
        ] {
            assert_eq!(keys_url(text.as_bytes(), ISSUER), Err(error), "{text}");
        }
        let local = "http://[::1]:8080/a";
        let keys = "http://[::1]:8080/keys";
        assert_eq!(keys_url(document(local, keys).as_bytes(), local).as_deref(), Ok(keys));
    }

    #[test]
    fn where_tokens_are_asked_about() {
        let document = |url: Value| {
            serde_json::json!({ "issuer": ISSUER, "introspection_endpoint": url }).to_string()
        };
        let fine = "https://id.example.com/realms/edge/introspect";
        let elsewhere = "https://id.example.com.evil.com/introspect";
        let is_elsewhere = DiscoveryError::IntrospectionElsewhere(elsewhere.to_owned());
        for (url, found) in [
            (fine.into(), Ok(fine.to_owned())),
            (elsewhere.into(), Err(is_elsewhere)),
            (Value::Null, Err(DiscoveryError::NoIntrospection)),
            (7.into(), Err(DiscoveryError::NoIntrospection)),
        ] {
            assert_eq!(introspection_url(document(url).as_bytes(), ISSUER), found);
        }
        let other = introspection_url(document(fine.into()).as_bytes(), "https://other");
        assert_eq!(other, Err(DiscoveryError::Issuer(ISSUER.to_owned())));
    }

    #[test]
    fn where_the_document_is() {
        let url = "https://id.example.com/realms/edge/.well-known/openid-configuration";
        assert_eq!(discovery_url(ISSUER), url);
        assert_eq!(discovery_url(&format!("{ISSUER}/")), url);
    }

    #[test]
    fn how_long_an_answer_holds() {
        let seconds = Duration::from_secs;
        for (header, age) in [
            ("max-age=600", Some(seconds(600))),
            ("public, Max-Age=\"60\", must-revalidate", Some(seconds(60))),
            ("max-age=600, no-store", Some(Duration::ZERO)),
            ("no-cache", Some(Duration::ZERO)),
            ("public", None),
            ("max-age=x", None),
            ("max-age=-1", None),
            ("s-maxage=9", None),
            ("", None),
        ] {
            assert_eq!(max_age(header), age, "{header}");
        }
    }
}
