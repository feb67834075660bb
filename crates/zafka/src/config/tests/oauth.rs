//! `kafka.security.sasl` with OAUTHBEARER: each grant, each mistake, each example of the book.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use zafka_oidc::{Assertion, ClientAuthentication, Grant, SecretSource, TokenConfig};
use zafka_testkit::oidc::Certificates;

use super::*;

const SASL: &str = "kafka.security.sasl";
const URL: &str = "token_url = 'https://idp/token'";

/// Files beside a configuration: keys and certificates, and a token that only its owner reads.
fn files() -> Certificates {
    let files = Certificates::make();
    for (name, content, mode) in [("token", "abc.def.ghi", 0o600), ("open", "abc", 0o644)] {
        let file = files.ca().with_file_name(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    let (certificate, key) = files.client("zafka");
    for (from, name, mode) in [
        (&key, "key.pem", 0o600),
        (&key, "open-key.pem", 0o644),
        (&certificate, "no-key.pem", 0o600),
        (&certificate, "certificate.pem", 0o644),
    ] {
        let file = files.ca().with_file_name(name);
        fs::copy(from, &file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    files
}

fn sasl(keys: &str) -> String {
    let keys = keys.replace("URL", URL);
    with_security(&format!("tls = true\nsasl = {{ mechanism = 'OAUTHBEARER', {keys} }}"))
}

fn read_in(files: &Certificates, text: &str) -> Result<Loaded, Vec<Mistake>> {
    parse(text, files.ca().parent().unwrap(), &variable, false, None)
}

#[test]
fn every_grant_and_every_proof_of_the_client() {
    let files = files();
    let tokens = |keys: &str| {
        let loaded = read_in(&files, &sasl(keys)).unwrap();
        assert!(loaded.warnings.is_empty(), "{keys}: {:?}", loaded.warnings);
        match loaded.config.cluster.security.sasl {
            Some(Sasl::OAuthBearer(bearer)) => bearer.tokens,
            other => panic!("{other:?}"),
        }
    };
    let at = |name: &str| files.ca().with_file_name(name);
    assert_eq!(tokens("grant = 'file', token_file = 'token'"), TokenConfig::File(at("token")));
    let endpoint = |keys: &str| match tokens(keys) {
        TokenConfig::Endpoint(endpoint) => *endpoint,
        other => panic!("{other:?}"),
    };
    let proof = |keys: &str| endpoint(&format!("URL, client_id = 'c', {keys}")).authentication;
    assert!(matches!(proof("client_secret = '${PASSWORD}'"), ClientAuthentication::Secret(_)));
    assert!(matches!(proof("client_secret_file = 'token'"), ClientAuthentication::Secret(_)));
    let by_file = proof("client_assertion_file = 'token'");
    assert_eq!(by_file, ClientAuthentication::AssertionFile(at("token")));
    let by_key = proof(
        "client_key_file = 'key.pem', client_key_id = 'k', client_key_algorithm = 'ES256', \
         client_assertion_audience = 'https://idp'",
    );
    let ClientAuthentication::Key { key, audience } = by_key else { panic!("{by_key:?}") };
    assert_eq!((key.file, key.id.as_deref()), (at("key.pem"), Some("k")));
    assert_eq!(audience.as_deref(), Some("https://idp"));
    let by_certificate =
        proof("client_certificate = 'certificate.pem', client_certificate_key = 'key.pem'");
    assert!(matches!(by_certificate, ClientAuthentication::Certificate(_)));

    let exchange = endpoint(
        "grant = 'token_exchange', URL, subject_token_file = 'token', audience = 'kafka', \
         resource = 'https://kafka', scope = ['a', 'b']",
    );
    let expected = Grant::TokenExchange {
        subject_token: SecretSource::File(at("token")),
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
    };
    assert_eq!((exchange.grant, exchange.authentication), (expected, ClientAuthentication::None));
    assert_eq!(exchange.scope, ["a", "b"]);
    assert_eq!(exchange.resource.as_deref(), Some("https://kafka"));
    let bearer = endpoint("grant = 'jwt_bearer', URL, assertion_file = 'token'");
    assert_eq!(bearer.grant, Grant::JwtBearer(Assertion::File(at("token"))));
    let signed = endpoint(
        "grant = 'jwt_bearer', URL, assertion = { key_file = 'key.pem', iss = 'i', sub = 's', \
         life = '30s', claims = { scope = 'kafka' } }",
    );
    let Grant::JwtBearer(Assertion::Signed(signed)) = signed.grant else { panic!("{signed:?}") };
    assert_eq!(
        (signed.issuer.as_str(), signed.subject.as_str(), signed.audience),
        ("i", "s", None)
    );
    assert_eq!(signed.life, Duration::from_secs(30));
    assert_eq!(signed.claims, [("scope".to_owned(), "kafka".to_owned())]);
}

#[test]
fn mistakes_of_grants() {
    let files = files();
    let client = "URL, client_id = 'c'";
    let jwt = "grant = 'jwt_bearer', URL";
    for (keys, key, found, allowed) in [
        ("grant = 'password', URL".to_owned(), "grant", "password", "token_exchange"),
        ("grant = 'file'".to_owned(), "token_file", "missing", "grant = \"file\""),
        (
            "grant = 'file', token_file = 'token', URL".to_owned(),
            "token_url",
            "not a key of OAUTHBEARER with grant = \"file\"",
            "token_file",
        ),
        ("grant = 'file', token_file = 'none'".to_owned(), "token_file", "No such file", "a file"),
        (
            "grant = 'token_exchange', URL".to_owned(),
            "subject_token_file",
            "missing",
            "is required by grant = \"token_exchange\"",
        ),
        (
            format!("{client}, client_secret = 's', subject_token_file = 'token'"),
            "subject_token_file",
            "with grant = \"client_credentials\"",
            "client_key_file",
        ),
        (jwt.to_owned(), "assertion_file", "missing", "assertion_file or assertion"),
        (
            format!("{jwt}, assertion_file = 'token', assertion = {{ key_file = 'key.pem' }}"),
            "assertion",
            "`assertion_file` is there too",
            "one of the two",
        ),
        (client.to_owned(), "client_secret", "missing", "client_certificate is required"),
        ("URL, client_secret = 's'".to_owned(), "client_id", "missing", "`client_secret`"),
        (
            format!("{client}, client_secret = 's', client_key_file = 'key.pem'"),
            "client_key_file",
            "`client_secret` is there too",
            "one of client_secret",
        ),
        (
            format!("{client}, client_secret = 's', client_key_id = 'k'"),
            "client_key_id",
            "`client_key_file` is missing",
            "only together",
        ),
        (
            format!("{client}, client_certificate = 'certificate.pem'"),
            "client_certificate",
            "`client_certificate_key` is missing",
            "only together",
        ),
        (
            "token_url = 'http://127.0.0.1/t', client_id = 'c', client_certificate = \
             'certificate.pem', client_certificate_key = 'key.pem'"
                .to_owned(),
            "client_certificate",
            "not https",
            "RFC 8705",
        ),
        (
            format!("{client}, client_key_file = 'open-key.pem'"),
            "client_key_file",
            "can be read by every user of this machine",
            "chmod 600",
        ),
        (
            format!("{client}, client_key_file = 'no-key.pem'"),
            "client_key_file",
            "no private key in it (PEM)",
            "",
        ),
        (
            format!("{client}, client_key_file = 'key.pem', client_key_algorithm = 'RS256'"),
            "client_key_file",
            "a P-256 key, which does not sign by RS256",
            "",
        ),
        (
            format!("{client}, client_key_file = 'key.pem', client_key_algorithm = 'HS256'"),
            "client_key_algorithm",
            "HS256",
            "EdDSA",
        ),
        (
            format!("{client}, client_secret = 's', ca = 'key.pem'"),
            "ca",
            "no certificate in it (PEM)",
            "",
        ),
        (
            format!("{client}, client_secret = 's', resource = 'kafka'"),
            "resource",
            "kafka",
            "SCHEME:REST",
        ),
        (
            format!(
                "{jwt}, assertion = {{ key_file = 'key.pem', iss = 'i', sub = 's', life = '6m' }}"
            ),
            "assertion.life",
            "6m",
            "5m",
        ),
        (
            format!(
                "{jwt}, assertion = {{ key_file = 'key.pem', iss = 'i', sub = 's', \
                 claims = {{ exp = '9' }} }}"
            ),
            "assertion.claims",
            "found the claim \"exp\"",
            "any but iss",
        ),
        (
            format!("{jwt}, assertion = {{ key_file = 'key.pem', iss = 'i' }}"),
            "assertion.sub",
            "missing",
            "",
        ),
        (
            format!("{jwt}, assertion = {{ key_file = 'no-key.pem', iss = 'i', sub = 's' }}"),
            "assertion",
            "no private key in it (PEM)",
            "",
        ),
    ] {
        let mistakes = read_in(&files, &sasl(&keys)).expect_err(&keys);
        let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        let shown = shown.join("\n");
        assert_eq!(mistakes.len(), 1, "{keys}\n{shown}");
        let mistake = &mistakes[0];
        assert_eq!((mistake.line, mistake.key.as_str()), (3, &*format!("{SASL}.{key}")), "{shown}");
        assert!(mistake.found.contains(found), "expected {found:?}\n{shown}");
        assert!(mistake.allowed.contains(allowed), "expected {allowed:?}\n{shown}");
    }
}

#[test]
fn a_token_that_others_can_read_is_a_warning() {
    let files = files();
    let loaded = read_in(&files, &sasl("grant = 'file', token_file = 'open'")).unwrap();
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert_eq!((warning.line, warning.key.as_str()), (3, "kafka.security.sasl.token_file"));
    assert!(warning.text.contains("every user of this machine"), "{warning}");
}

/// The examples of the book, with the files that they name.
#[test]
fn the_book_s_examples_have_no_mistakes() {
    let files = files();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kafka-security.md");
    let page = fs::read_to_string(page).unwrap();
    let mut count = 0;
    for block in page.split("\n```").skip(1).step_by(2) {
        let Some(example) = block.strip_prefix("toml\n") else { continue };
        let mut text = format!("{}\n{example}", with_security(""));
        text = text.replacen("[kafka.security]\n", "", 1);
        for folder in ["/etc/zafka/", "/var/run/secrets/tokens/"] {
            text = text.replace(folder, "");
        }
        let loaded = read_in(&files, &text).unwrap_or_else(|mistakes| {
            panic!("{example}\n{mistakes:?}");
        });
        assert!(loaded.warnings.is_empty(), "{example}\n{:?}", loaded.warnings);
        assert!(loaded.config.cluster.security.sasl.is_some(), "{example}");
        count += 1;
    }
    assert!(count >= 6, "only {count}");
}
