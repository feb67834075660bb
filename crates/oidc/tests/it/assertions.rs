//! Assertions that we sign: a provider verifies them with the public key.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
};
use zafka_oidc::{
    Algorithm, Assertion, ClientAuthentication, EndpointConfig, Grant, SignedAssertion,
    SigningKeyConfig, TokenConfig, TokenProvider,
};

use super::provider::{Asked, Judge, Provider, Reply, granted, refused};
use super::{client, error, keys, token};

pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn judge(name: &'static str, algorithm: &'static dyn VerificationAlgorithm, key: &str) -> Judge {
    Judge {
        algorithm,
        name,
        key: keys::public(key),
        key_id: None,
        issuer: "zafka",
        audience: None,
        ahead: 0,
        seen: BTreeSet::new(),
    }
}

pub fn es256() -> Judge {
    judge("ES256", &ECDSA_P256_SHA256_FIXED, "p256")
}

/// A provider that takes clients whose assertion is good.
fn provider(mut judge: Judge) -> Provider {
    Provider::start(move |asked| by_assertion(&mut judge, asked))
}

fn by_assertion(judge: &mut Judge, asked: &Asked) -> Reply {
    assert_eq!(asked.field("client_assertion_type"), ASSERTION_TYPE);
    match judge.verify(asked.field("client_assertion")) {
        Ok(claims) if claims["sub"] == claims["iss"] => granted("t"),
        Ok(_) => refused("invalid_client", "another subject"),
        Err(reason) => refused("invalid_client", &reason),
    }
}

pub fn signing(file: PathBuf) -> SigningKeyConfig {
    SigningKeyConfig { file, id: None, algorithm: None }
}

fn by_key(provider: &Provider, key: SigningKeyConfig) -> EndpointConfig {
    let authentication = ClientAuthentication::Key { key, audience: None };
    EndpointConfig { authentication, ..client(provider) }
}

#[test]
fn a_client_signs_by_every_algorithm() {
    for (name, algorithm, verifies, key) in [
        ("RS256", None, &RSA_PKCS1_2048_8192_SHA256 as &'static dyn VerificationAlgorithm, "rsa"),
        ("RS384", Some(Algorithm::Rs384), &RSA_PKCS1_2048_8192_SHA384, "rsa"),
        ("RS512", Some(Algorithm::Rs512), &RSA_PKCS1_2048_8192_SHA512, "rsa"),
        ("PS256", Some(Algorithm::Ps256), &RSA_PSS_2048_8192_SHA256, "rsa"),
        ("PS384", Some(Algorithm::Ps384), &RSA_PSS_2048_8192_SHA384, "rsa"),
        ("PS512", Some(Algorithm::Ps512), &RSA_PSS_2048_8192_SHA512, "rsa"),
        ("ES256", None, &ECDSA_P256_SHA256_FIXED, "p256"),
        ("ES384", None, &ECDSA_P384_SHA384_FIXED, "p384"),
        ("EdDSA", None, &ED25519, "ed25519"),
    ] {
        let mut judge = judge(name, verifies, key);
        judge.key_id = Some("one");
        let provider = provider(judge);
        let key =
            SigningKeyConfig { file: keys::private(key), id: Some("one".to_owned()), algorithm };
        assert_eq!(token(by_key(&provider, key)).unwrap(), "t", "{name}");
        let asked = provider.asked();
        assert_eq!((asked[0].field("client_id"), &asked[0].authorization), ("zafka", &None));
    }
    // As `openssl genrsa -traditional` writes it.
    let pkcs1 =
        keys::converted("rsa", "pkcs1", &["rsa", "-in", "IN", "-traditional", "-out", "OUT"]);
    let provider = provider(judge("RS256", &RSA_PKCS1_2048_8192_SHA256, "rsa"));
    assert_eq!(token(by_key(&provider, signing(pkcs1))).unwrap(), "t");
}

#[test]
fn an_assertion_is_for_one_provider_one_moment_and_one_use() {
    let own = || signing(keys::private("p256"));
    // What is accepted, with one thing changed.
    let mut good = es256();
    let told = Provider::start(move |asked| {
        good.audience = Some("https://issuer".to_owned());
        by_assertion(&mut good, asked)
    });
    let for_issuer = |audience: &str, key| EndpointConfig {
        authentication: ClientAuthentication::Key { key, audience: Some(audience.to_owned()) },
        ..client(&told)
    };
    assert_eq!(token(for_issuer("https://issuer", own())).unwrap(), "t");
    for (config, reason) in [
        (for_issuer("https://issuer/", own()), "another audience"),
        (for_issuer("https://issuer", signing(keys::private("other"))), "bad signature"),
    ] {
        let key = match &config.authentication {
            ClientAuthentication::Key { key, .. } => key.file.display().to_string(),
            _ => String::new(),
        };
        let expected = format!(
            "{} refuses a token to client \"zafka\": invalid_client: {reason} (it was shown \
             {key})\n",
            told.url()
        );
        let found = error(config);
        assert!(found.starts_with(&expected), "{found}");
    }

    let late = Judge { ahead: 61, ..es256() };
    let found = error(by_key(&provider(late), own()));
    assert!(found.contains("invalid_client: expired"), "{found}");

    // The same assertion a second time: a platform that does not renew it.
    let asked = told.asked();
    let first = asked[0].field("client_assertion");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("assertion");
    std::fs::write(&file, first).unwrap();
    let authentication = ClientAuthentication::AssertionFile(file.clone());
    let found = error(EndpointConfig { authentication, ..client(&told) });
    assert!(found.contains("invalid_client: replayed"), "{found}");
    assert!(found.contains(file.to_str().unwrap()) && !found.contains("eyJ"), "{found}");
}

#[test]
fn no_two_requests_show_the_same_assertion() {
    let provider = provider(es256());
    for _ in 0..3 {
        assert!(token(by_key(&provider, signing(keys::private("p256")))).is_ok());
    }
    assert_eq!(provider.asked().len(), 3);
}

#[test]
fn a_key_that_is_replaced_signs_the_next_assertion() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    std::fs::copy(keys::private("other"), &file).unwrap();
    let at = provider(es256());
    let tokens =
        TokenProvider::new(&TokenConfig::Endpoint(Box::new(by_key(&at, signing(file.clone())))));
    let tokens = tokens.unwrap();
    let reason = tokens.token().unwrap_err().to_string();
    assert!(reason.contains("bad signature"), "{reason}");
    std::fs::copy(keys::private("p256"), &file).unwrap();
    assert_eq!(tokens.token().unwrap().secret.expose(), "t");
}

#[test]
fn an_assertion_that_a_token_is_granted_for() {
    let mut judge = es256();
    judge.key_id = Some("k");
    judge.issuer = "zafka@example";
    let provider = Provider::start(move |asked| {
        assert_eq!(asked.field("grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
        match judge.verify(asked.field("assertion")) {
            Ok(claims) => {
                granted(&format!("{}-{}", claims["sub"], claims["scope"]).replace('"', ""))
            }
            Err(reason) => refused("invalid_grant", &reason),
        }
    });
    let assertion = |file: &str, life| SignedAssertion {
        key: SigningKeyConfig { id: Some("k".to_owned()), ..signing(keys::private(file)) },
        issuer: "zafka@example".to_owned(),
        subject: "orders".to_owned(),
        audience: None,
        life: Duration::from_secs(life),
        claims: vec![("scope".to_owned(), "kafka".to_owned())],
    };
    let config = |assertion| EndpointConfig {
        client_id: None,
        authentication: ClientAuthentication::None,
        grant: Grant::JwtBearer(Assertion::Signed(assertion)),
        ..client(&provider)
    };
    assert_eq!(token(config(assertion("p256", 60))).unwrap(), "orders-kafka");
    let asked = provider.asked();
    assert!(!asked[0].form.contains_key("client_id") && asked[0].authorization.is_none());
    for (assertion, reason) in
        [(assertion("other", 60), "bad signature"), (assertion("p256", 301), "too long")]
    {
        let found = error(config(assertion));
        assert!(found.contains("refuses a token: invalid_grant: "), "{found}");
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn keys_that_cannot_sign_are_refused_before_anything_is_sent() {
    let provider = provider(es256());
    let pem = |name: &str, form: &str, arguments: &[&str]| keys::converted(name, form, arguments);
    let encrypted = pem(
        "p256",
        "enc",
        &["pkcs8", "-topk8", "-in", "IN", "-out", "OUT", "-passout", "pass:secret"],
    );
    let sec1 = pem("p256", "sec1", &["ec", "-in", "IN", "-out", "OUT"]);
    let public = pem("p256", "pub", &["pkey", "-in", "IN", "-pubout", "-out", "OUT"]);
    for (file, algorithm, reason) in [
        (encrypted, None, "is encrypted"),
        (sec1, None, "openssl pkcs8 -topk8"),
        (public, None, "no private key in it (PEM)"),
        (keys::private("p521"), None, "another kind than RSA, P-256, P-384 and Ed25519"),
        (keys::private("none"), None, "No such file"),
        (
            keys::private("p256"),
            Some(Algorithm::Rs256),
            "a P-256 key, which does not sign by RS256",
        ),
        (keys::private("rsa"), Some(Algorithm::EdDsa), "an RSA key, which does not sign by EdDSA"),
    ] {
        let key = SigningKeyConfig { file: file.clone(), id: None, algorithm };
        let found = error(by_key(&provider, key));
        assert!(found.starts_with(&format!("{}: ", file.display())), "{found}");
        assert!(found.contains(reason), "{found}");
    }
    assert!(provider.asked().is_empty());
}
