//! The exchange of tokens that somebody shows.

use zafka_oidc::{ExchangeConfig, LiveSecret, Secret, Token, TokenError, TokenProvider};

use super::client;
use super::provider::{Provider, granted, refused};

fn exchanging(provider: &Provider) -> ExchangeConfig {
    let subject_token_type = "urn:ietf:params:oauth:token-type:access_token".to_owned();
    ExchangeConfig { endpoint: client(provider), subject_token_type }
}

fn exchange(provider: &Provider, token: &str) -> Result<Token, TokenError> {
    TokenProvider::new(&exchanging(provider).of(Secret::new(token))).unwrap().token()
}

#[test]
fn what_was_granted_goes_with_the_token_that_it_was_granted_for() {
    let provider =
        Provider::start(|asked| granted(&format!("for.{}", asked.field("subject_token"))));
    let live = LiveSecret::new(Secret::new("alice.s.token"));
    let tokens = TokenProvider::new(&exchanging(&provider).of(live.clone())).unwrap();
    let token = || tokens.token().map(|token| token.secret.expose().to_owned());
    assert_eq!(token().unwrap(), "for.alice.s.token");
    // What is there is good as long as it lives.
    live.replace(Secret::new("alice.s.next"));
    assert_eq!(tokens.living().unwrap().secret.expose(), "for.alice.s.token");
    live.take_away();
    for error in [tokens.living().unwrap_err(), tokens.token().unwrap_err()] {
        assert!(matches!(error, TokenError::TakenAway) && error.is_refusal(), "{error}");
    }
    assert_eq!(provider.asked().len(), 1, "nobody is asked without it");
    // Another provider of tokens begins with the newest one.
    let live = LiveSecret::new(Secret::new("bob.s.first"));
    live.replace(Secret::new("bob.s.next"));
    let tokens = TokenProvider::new(&exchanging(&provider).of(live)).unwrap();
    assert_eq!(tokens.token().unwrap().secret.expose(), "for.bob.s.next");
}

#[test]
fn each_token_is_exchanged_for_its_owner_s() {
    let provider = Provider::start(|asked| match asked.field("subject_token") {
        "alice.s.token" => granted("for.alice.t"),
        other => refused("invalid_grant", &format!("{other} is not taken")),
    });
    let token = exchange(&provider, "alice.s.token").unwrap();
    assert_eq!(token.secret.expose(), "for.alice.t");
    let asked = &provider.asked()[0];
    let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
    let kind = "urn:ietf:params:oauth:token-type:access_token";
    for (field, expected) in
        [("grant_type", grant), ("subject_token_type", kind), ("requested_token_type", kind)]
    {
        assert_eq!(asked.field(field), expected);
    }
    assert!(asked.authorization.is_some());
    let error = exchange(&provider, "mallory.s.token").unwrap_err();
    assert!(error.is_refusal());
    let error = error.to_string();
    assert!(error.contains("invalid_grant") && !error.contains("mallory.s"), "{error}");
}

#[test]
fn the_same_token_is_none_in_exchange() {
    let provider = Provider::start(|asked| granted(asked.field("subject_token")));
    let error = exchange(&provider, "alice.s.token").unwrap_err();
    assert!(!error.is_refusal());
    let error = error.to_string();
    assert!(error.contains("for another one in exchange") && !error.contains("alice.s"), "{error}");
}

#[test]
fn a_provider_that_is_in_trouble_has_not_said_no() {
    for (error, is_refusal) in [
        ("invalid_grant", true),
        ("invalid_target", true),
        ("unauthorized_client", true),
        ("access_denied", true),
        ("server_error", false),
        ("temporarily_unavailable", false),
        ("slow_down", false),
    ] {
        let provider = Provider::start(move |_| refused(error, "x"));
        assert_eq!(exchange(&provider, "a.b.c").unwrap_err().is_refusal(), is_refusal, "{error}");
    }
    let provider = Provider::start(|_| (503, String::new(), "<html>".to_owned()));
    assert!(!exchange(&provider, "a.b.c").unwrap_err().is_refusal());
}
