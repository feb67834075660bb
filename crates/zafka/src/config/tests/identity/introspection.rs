//! `introspection` of an issuer.

use zafka_oidc::{ClientAuthentication, Secret, SecretSource};

use super::*;

fn with(issuer: &str, introspection: &str) -> String {
    let issuer = format!("[[identity.issuer]]\n{issuer}\naudience = ['a']\n");
    let access = "[[identity.access]]\nwho = 'any-key'\nread = ['t']";
    file(&format!("{SECRET}\n{issuer}introspection = {{ {introspection} }}\n{access}"), TCP)
}

const DISCOVERED: &str = "issuer = 'https://id'";
const SECRET_OF_CLIENT: &str = "client_id = 'zafka', client_secret = 's3cret'";

#[test]
fn an_introspection_is_read() {
    let folder = folder();
    let issuer = |text: &str| {
        let loaded = read_in(&folder, text).unwrap();
        loaded.config.identity.unwrap().issuers.remove(0)
    };
    let read = issuer(&with(DISCOVERED, SECRET_OF_CLIENT));
    assert!(read.issuer.introspects);
    let source = read.introspection.unwrap();
    assert_eq!((source.url, source.every), (None, Duration::from_secs(60)));
    assert_eq!(source.client.audience, "https://id");
    let secret = SecretSource::Text(Secret::new("s3cret"));
    assert_eq!(source.client.authentication, ClientAuthentication::Secret(secret));
    let file = "issuer = 'edge'\njwks_url = 'https://id/keys'";
    let more = format!("{SECRET_OF_CLIENT}, url = 'https://id/introspect', every = '5s'");
    let source = issuer(&with(file, &more)).introspection.unwrap();
    assert_eq!(source.url.as_deref(), Some("https://id/introspect"));
    assert_eq!(source.every, Duration::from_secs(5));
    let without = with(DISCOVERED, SECRET_OF_CLIENT).replace("introspection", "# introspection");
    let read = issuer(&without);
    assert!(read.introspection.is_none() && !read.issuer.introspects, "only if it is asked for");
}

#[test]
fn mistakes_of_introspections() {
    let folder = folder();
    let key = |name: &str| format!("identity.issuer.introspection.{name}");
    for (text, name, part) in [
        (with(DISCOVERED, ""), "client_secret", "is required by introspection"),
        (with(DISCOVERED, "client_id = 'zafka'"), "client_secret", "client_certificate"),
        (with(DISCOVERED, "client_secret = 's3cret'"), "client_id", "`client_secret` requires it"),
        (
            with("issuer = 'edge'\njwks_url = 'https://id/keys'", SECRET_OF_CLIENT),
            "url",
            "url is required by an issuer with `jwks_url`",
        ),
        (
            with(DISCOVERED, &format!("{SECRET_OF_CLIENT}, url = 'http://id/x'")),
            "url",
            "in the clear",
        ),
        (with(DISCOVERED, &format!("{SECRET_OF_CLIENT}, every = '0s'")), "every", "from 1s to 1h"),
        (with(DISCOVERED, &format!("{SECRET_OF_CLIENT}, ca = 'gone.pem'")), "ca", "gone.pem"),
        (with(DISCOVERED, &format!("{SECRET_OF_CLIENT}, scope = 'x'")), "scope", "unknown key"),
        (
            with(
                "issuer = 'http://127.0.0.1:1'",
                "client_id = 'a', client_certificate = 'c', client_certificate_key = 'k'",
            ),
            "client_certificate",
            "`issuer` is not https",
        ),
    ] {
        let mistakes = read_in(&folder, &text).unwrap_err();
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        let is_told = |one: &String| one.contains(&key(name)) && one.contains(part);
        assert!(told.iter().any(is_told), "{part}: {told:?}");
        assert!(!told.concat().contains("s3cret"), "{told:?}");
    }
}
