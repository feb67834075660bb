//! Tokens and secrets in files that somebody else renews.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zafka_oidc::{
    Assertion, ClientAuthentication, EndpointConfig, Grant, SecretSource, TokenConfig,
    TokenProvider,
};

use super::provider::{Provider, granted, refused};
use super::{client, error};

/// A JWT that ends in so many seconds.
fn jwt(name: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let end = now.saturating_add_signed(seconds);
    let payload = format!(r#"{{"sub":"{name}","exp":{end}}}"#);
    format!("eyJhbGciOiJub25lIn0.{}.{name}", URL_SAFE_NO_PAD.encode(payload))
}

#[test]
fn what_a_file_holds_is_read_anew_for_each_request() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shown");
    let subject_token_type = "urn:ietf:params:oauth:token-type:jwt".to_owned();
    let subject_token = SecretSource::File(file.clone());
    let exchange = Grant::TokenExchange { subject_token, subject_token_type };
    let none = ClientAuthentication::None;
    for (field, authentication, grant) in [
        ("subject_token", none.clone(), exchange),
        ("assertion", none, Grant::JwtBearer(Assertion::File(file.clone()))),
        (
            "client_assertion",
            ClientAuthentication::AssertionFile(file.clone()),
            Grant::ClientCredentials,
        ),
        (
            "",
            ClientAuthentication::Secret(SecretSource::File(file.clone())),
            Grant::ClientCredentials,
        ),
    ] {
        // Refused, so that it is asked again.
        let provider = Provider::start(|_| refused("invalid_grant", "not yet"));
        let config = EndpointConfig { authentication, grant, ..client(&provider) };
        let tokens = TokenProvider::new(&TokenConfig::Endpoint(Box::new(config))).unwrap();
        for content in ["first", "second"] {
            std::fs::write(&file, format!("{content}\n")).unwrap();
            let reason = tokens.token().unwrap_err().to_string();
            let shown = format!("invalid_grant: not yet (it was shown {})", file.display());
            assert!(reason.ends_with(&shown), "{reason}");
            let asked = provider.asked().pop().unwrap();
            if field.is_empty() {
                let basic = format!("Basic {}", URL_SAFE_NO_PAD.encode(format!("zafka:{content}")));
                let found = asked.authorization.unwrap();
                assert_eq!(found.trim_end_matches('='), basic);
            } else {
                assert_eq!(asked.field(field), content, "{field}");
            }
        }
        // Nothing is asked with half a file.
        std::fs::write(&file, "").unwrap();
        let before = provider.asked().len();
        let reason = tokens.token().unwrap_err().to_string();
        assert!(reason.starts_with(&format!("{}: empty", file.display())), "{reason}");
        assert_eq!(provider.asked().len(), before);
    }
}

#[test]
fn a_token_to_exchange_that_is_past_its_end_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("subject");
    std::fs::write(&file, jwt("late", -5)).unwrap();
    let provider = Provider::start(|asked| match asked.field("subject_token").is_empty() {
        true => granted("t"),
        false => refused("invalid_request", &format!("bad {}", asked.field("subject_token"))),
    });
    let config = EndpointConfig {
        grant: Grant::TokenExchange {
            subject_token: SecretSource::File(file.clone()),
            subject_token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
        },
        ..client(&provider)
    };
    let found = error(config);
    let expected = format!(
        "{} refuses a token to client \"zafka\": invalid_request: bad *** (it was shown {}, whose \
         token is past its end)\n",
        provider.url(),
        file.display()
    );
    assert!(found.starts_with(&expected), "{found}");
    assert!(!found.contains("eyJ") && !found.contains("s3cret"), "{found}");
}

#[test]
fn a_file_s_own_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let tokens = TokenProvider::new(&TokenConfig::File(file.clone())).unwrap();
    let missing = tokens.token().unwrap_err().to_string();
    assert!(missing.starts_with(&format!("{}: No such file", file.display())), "{missing}");
    std::fs::write(&file, jwt("late", -1)).unwrap();
    let late = tokens.token().unwrap_err().to_string();
    assert_eq!(late, format!("{}: the token in it is past its end (`exp`)", file.display()));
    // An opaque one is looked at again after a while; the end of a JWT is its own.
    let (now, second) = (|| SystemTime::now().duration_since(UNIX_EPOCH), Duration::from_secs(1));
    for (is_jwt, life) in [(false, 300 * second), (true, 3600 * second)] {
        let before = now().unwrap();
        let content = if is_jwt { jwt("good", 3600) } else { "opaque".to_owned() };
        std::fs::write(&file, format!("{content}\n")).unwrap();
        let tokens = TokenProvider::new(&TokenConfig::File(file.clone())).unwrap();
        let token = tokens.token().unwrap();
        assert_eq!(token.secret.expose(), content);
        let end = Duration::from_millis(token.expires_ms.try_into().unwrap());
        assert!(before + life <= end + second && end <= now().unwrap() + life, "{end:?}");
    }
}

#[test]
fn a_file_s_token_is_followed_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let tokens = TokenProvider::new(&TokenConfig::File(file.clone())).unwrap();
    let (second, end) = (jwt("second", 3600), Instant::now() + Duration::from_secs(60));
    loop {
        let first = jwt("first", 3);
        std::fs::write(&file, &first).unwrap();
        match tokens.token() {
            Ok(token) => break assert_eq!(token.secret.expose(), first),
            // A slow machine has let it end.
            Err(late) => assert!(Instant::now() < end, "{late}"),
        }
    }
    std::fs::write(&file, &second).unwrap();
    while tokens.token().unwrap().secret.expose() != second {
        assert!(Instant::now() < end, "it is not read again");
        std::thread::sleep(Duration::from_millis(50));
    }
}
