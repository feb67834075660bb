//! Questions whether a token is active.

use zafka_oidc::{
    ClientAuthentication, Introspection, IntrospectionConfig, IntrospectionError, Secret,
    SecretSource,
};

use super::assertions::{ASSERTION_TYPE, es256, signing};
use super::keys;
use super::provider::{Provider, Reply, refused};

const TOKEN: &str = "eyJhIjoxfQ.e30.x";

fn by_secret() -> ClientAuthentication {
    ClientAuthentication::Secret(SecretSource::Text(Secret::new("s3cret")))
}

fn ask(provider: &Provider, proof: ClientAuthentication) -> Result<bool, IntrospectionError> {
    let config = IntrospectionConfig {
        client_id: Some("zafka".to_owned()),
        authentication: proof,
        audience: "https://id".to_owned(),
        ca: None,
    };
    let url = provider.url();
    let introspection = Introspection::new(config);
    introspection.check(&url).unwrap();
    introspection.is_active(&url, &Secret::new(TOKEN))
}

fn told(answer: impl Fn() -> Reply + Send + 'static) -> String {
    let provider = Provider::start(move |_| answer());
    let error = ask(&provider, by_secret()).unwrap_err();
    let told = format!("{error}\n{error:?}");
    assert!(!told.contains("s3cret") && !told.contains("eyJ"), "{told}");
    assert!(told.starts_with(&provider.url()), "{told}");
    told
}

fn says(body: &str) -> Reply {
    (200, String::new(), body.to_owned())
}

#[test]
fn a_provider_is_shown_the_token_and_the_client() {
    let provider = Provider::start(|asked| {
        says(match asked.field("token") {
            TOKEN => "{\"active\":true,\"sub\":\"alice\"}",
            _ => "{\"active\":false}",
        })
    });
    assert!(ask(&provider, by_secret()).unwrap());
    let asked = &provider.asked()[0];
    assert_eq!(asked.field("token_type_hint"), "access_token");
    assert_eq!(asked.authorization.as_deref(), Some("Basic emFma2E6czNjcmV0"));
    assert!(asked.form.len() == 2, "no secret is in the form: {:?}", asked.form.keys());
    let other = Provider::start(|_| says("{\"active\":false}"));
    assert!(!ask(&other, by_secret()).unwrap());
}

#[test]
fn a_client_may_sign_who_it_is() {
    let mut judge = es256();
    judge.audience = Some("https://id".to_owned());
    let provider =
        Provider::start(move |asked| match judge.verify(asked.field("client_assertion")) {
            Ok(_) => says("{\"active\":true}"),
            Err(reason) => refused("invalid_client", &reason),
        });
    let key = signing(keys::private("p256"));
    assert!(ask(&provider, ClientAuthentication::Key { key, audience: None }).unwrap());
    let asked = &provider.asked()[0];
    assert_eq!((asked.field("client_id"), &asked.authorization), ("zafka", &None));
    assert_eq!(asked.field("client_assertion_type"), ASSERTION_TYPE);
}

#[test]
fn an_answer_that_is_none_says_neither() {
    for (reply, part) in [
        (says("{}"), "\"active\" is missing"),
        (says("{\"active\":\"false\"}"), "neither true nor false"),
        (says("<html>"), "no JSON object"),
        (says(""), "no JSON object"),
        ((401, String::new(), String::new()), "status 401, and no JSON object"),
        (
            (
                401,
                String::new(),
                "{\"error\":\"invalid_client\",\"error_description\":\"s3cret\"}".to_owned(),
            ),
            "refuses to answer: invalid_client: ***",
        ),
        ((500, String::new(), "{\"active\":false}".to_owned()), "no \"error\" in it"),
        ((503, String::new(), "{\"error\":\"x\"}".to_owned()), "status 503: x"),
    ] {
        let shown = told(move || reply.clone());
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let large = told(|| says(&"x".repeat((1 << 20) + 1)));
    assert!(large.contains("larger than 1 MiB"), "{large}");
}

#[test]
fn a_token_is_not_sent_elsewhere() {
    let other = std::sync::Arc::new(Provider::start(|_| says("{\"active\":true}")));
    for status in [301, 302, 303, 307, 308] {
        let to = other.url();
        let shown = told(move || (status, format!("Location: {to}\r\n"), String::new()));
        assert!(shown.contains("a redirect, which is not followed"), "{shown}");
    }
    assert!(other.asked().is_empty());
}
