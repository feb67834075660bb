//! Answers that a provider should not give.

use std::sync::Arc;

use zafka_oidc::{EndpointConfig, TokenConfig, TokenProvider};

use super::provider::{Provider, granted, refused};
use super::{client, error, token};

#[test]
fn a_redirect_is_not_followed() {
    let other = Arc::new(Provider::start(|_| granted("t")));
    let to = other.url();
    for status in [301, 302, 303, 307, 308] {
        let to = to.clone();
        let provider =
            Provider::start(move |_| (status, format!("Location: {to}\r\n"), String::new()));
        let found = error(client(&provider));
        let expected = format!("status {status}, a redirect, which is not followed");
        assert!(found.contains(&expected), "{found}");
    }
    assert!(other.asked().is_empty());
}

#[test]
fn what_is_read_of_an_answer_is_bounded() {
    let provider = Provider::start(|_| (200, String::new(), "x".repeat((1 << 20) + 1)));
    let found = error(client(&provider));
    assert!(found.contains("answers with no token: the answer is larger than 1 MiB"), "{found}");
}

#[test]
fn secrets_that_come_back_are_not_told() {
    let provider = Provider::start(|asked| {
        let basic = asked.authorization.clone().unwrap_or_default();
        refused("invalid_client", &format!("s3cret is wrong for eyJhIjoxfQ.e30.x: {basic}"))
    });
    let found = error(client(&provider));
    assert!(found.contains("invalid_client: *** is wrong for ***: Basic ***"), "{found}");
    for secret in ["s3cret", "eyJ", "emFma2E6"] {
        assert!(!found.contains(secret), "{found}");
    }
}

#[test]
fn settings_that_cannot_be_used() {
    let provider = Provider::start(|_| granted("t"));
    for (url, reason) in [("not a url", "token_url: "), ("/token", "with a scheme and a host")] {
        let found = error(EndpointConfig { token_url: url.to_owned(), ..client(&provider) });
        assert!(found.starts_with("token_url: ") && found.contains(reason), "{found}");
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let found = error(EndpointConfig { ca: Some(ca), ..client(&provider) });
    assert!(found.contains("ca.pem: no certificate in it (PEM)"), "{found}");
    assert!(token(client(&provider)).is_ok());
    let tokens = TokenProvider::new(&TokenConfig::Endpoint(Box::new(client(&provider)))).unwrap();
    let _ = tokens.token().unwrap();
    let debug = format!("{tokens:?}");
    assert!(debug.contains("zafka") && !debug.contains("s3cret"), "{debug}");
}
