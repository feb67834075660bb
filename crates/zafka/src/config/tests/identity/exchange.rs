//! `[identity.exchange]`, and rules by which Kafka decides.

use zafka_kafka::config::{Secret, TopicSelector};
use zafka_oidc::{ClientAuthentication, Grant, SecretSource, TokenConfig};

use super::*;

const ISSUER: &str = "[[identity.issuer]]\nissuer = 'https://id'\naudience = ['a']";
const EXCHANGE: &str = "[identity.exchange]\ntoken_url = 'https://id/token'\naudience = 'kafka'\n";
const ASKS: &str = "[[identity.access]]\nwho = { iss = 'https://id' }\nread = 'kafka'";

/// A folder with the client's secret besides.
fn folder() -> tempfile::TempDir {
    let folder = super::folder();
    let path = folder.path().join("client.secret");
    fs::write(&path, "s3cret\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

fn with(exchange: &str, rule: &str) -> String {
    file(&format!("{SECRET}\n{ISSUER}\n{exchange}{rule}"), TCP)
}

#[test]
fn an_exchange_is_read() {
    let folder = folder();
    let keys = "client_id = 'zafka'\nclient_secret_file = 'client.secret'\nscope = ['x']\n\
                extensions = { logicalCluster = 'c' }\nacl_refresh = '30s'\n";
    let loaded = read_in(&folder, &with(&format!("{EXCHANGE}{keys}"), ASKS)).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("in the clear"), "{warnings:?}");
    let identity = loaded.config.identity.unwrap();
    let exchange = identity.exchange.unwrap();
    assert_eq!(exchange.acl_refresh, Duration::from_secs(30));
    let shown = exchange.of(Secret::new("a peer's"));
    assert_eq!(shown.extensions, [("logicalCluster".to_owned(), "c".to_owned())]);
    let TokenConfig::Endpoint(endpoint) = shown.tokens else { panic!("{shown:?}") };
    assert_eq!(endpoint.audience.as_deref(), Some("kafka"));
    assert_eq!(
        endpoint.grant,
        Grant::TokenExchange {
            subject_token: SecretSource::Text(Secret::new("a peer's")),
            subject_token_type: "urn:ietf:params:oauth:token-type:access_token".to_owned(),
        }
    );
    let secret = SecretSource::File(folder.path().join("client.secret"));
    assert_eq!(endpoint.authentication, ClientAuthentication::Secret(secret));
    let alice = Claims::new("https://id", "alice", []);
    let grant = identity.rules.grant(Some(&alice));
    assert!(grant.asks_kafka() && !grant.may_read("t"));
    // The topics of all routes, by what they read and may write.
    let route = "[[route]]\nname = 'in'\nfrom.zmq = { socket = 'router', bind = ['tcp://*:2'], \
                 frames = ['{topic}', '{value}'] }\nto.kafka = { topics = ['w', '/^e\\..*$/'] }\n";
    let text = format!("{}{route}", with(EXCHANGE, ASKS));
    let topics = read_in(&folder, &text).unwrap().config.asked_topics();
    assert_eq!(topics.read, [TopicSelector::Name("t".to_owned())]);
    assert_eq!(topics.write.len(), 2);
    assert_eq!(topics.write[0], TopicSelector::Name("w".to_owned()));
}

#[test]
fn the_book_s_example_has_no_mistakes() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let page = fs::read_to_string(page).unwrap();
    let mut examples = page.split("```toml\n").filter_map(|part| part.split("```").next());
    let example = examples.find(|example| example.contains("[identity.exchange]")).unwrap();
    let route = "[[route]]\nname = 'r'\nfrom.kafka = { topics = ['t'] }\n\
                 to.zmq = { socket = 'pub', bind = ['tcp://*:1'] }\n";
    let text = format!(
        "[kafka]\nbootstrap_servers = ['a:1']\n[kafka.security]\ntls = true\n{example}\n{route}"
    );
    let loaded = read_in(&folder(), &text).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.config.identity.unwrap().rules.ask_kafka());
}

#[test]
fn mistakes_of_exchanges() {
    let folder = folder();
    let read = "identity.access.read";
    for (text, key, part) in [
        (with("", ASKS), read, "only together with `[identity.exchange]`"),
        (
            with("", &ASKS.replace("read", "write")),
            "identity.access.write",
            "only together with `[identity.exchange]`",
        ),
        (with(EXCHANGE, &ASKS.replace("'kafka'", "'kafka '")), read, "or \"kafka\""),
        (with(EXCHANGE, &ASKS.replace("'kafka'", "1")), read, "found 1"),
        (
            with(EXCHANGE, "[[identity.access]]\nwho = 'any-key'\nread = 'kafka'"),
            read,
            "claims of tokens in `who`",
        ),
        (
            file(&format!("{SECRET}\n{EXCHANGE}{ASKS}"), TCP),
            "identity.exchange",
            "`issuer` is missing",
        ),
        (
            with("[identity.exchange]\naudience = 'kafka'\n", ASKS),
            "identity.exchange.token_url",
            "missing",
        ),
        (
            with("[identity.exchange]\ntoken_url = 'https://id/token'\n", ASKS),
            "identity.exchange.audience",
            "audience or scope or resource is required by an exchange",
        ),
        (
            with(&EXCHANGE.replace("https", "http"), ASKS),
            "identity.exchange.token_url",
            "in the clear",
        ),
        (
            with(&format!("{EXCHANGE}client_secret_file = 'client.secret'\n"), ASKS),
            "identity.exchange.client_id",
            "`client_secret_file` requires it",
        ),
        (
            with(&format!("{EXCHANGE}grant = 'file'\n"), ASKS),
            "identity.exchange.grant",
            "unknown key",
        ),
        (
            with(&format!("{EXCHANGE}max_identities = 32\n"), ASKS),
            "identity.exchange.max_identities",
            "not available in this version",
        ),
        (
            with(&format!("{EXCHANGE}acl_refresh = '2h'\n"), ASKS),
            "identity.exchange.acl_refresh",
            "to 1h",
        ),
        (
            with(&format!("{EXCHANGE}ca = 'client.secret'\n"), ASKS),
            "identity.exchange.ca",
            "no certificate in it",
        ),
    ] {
        expect_in(&folder, &text, &[(key, part)]);
    }
    let loaded = read_in(&folder, &with(EXCHANGE, RULE)).unwrap();
    let unused =
        loaded.warnings.iter().any(|warning| warning.text.contains("no token is exchanged"));
    assert!(unused, "{:?}", loaded.warnings);
}

#[test]
fn another_exchange_needs_a_restart() {
    let folder = folder();
    let read = |exchange: &str| read_in(&folder, &with(exchange, ASKS)).unwrap().config;
    let old = read(EXCHANGE);
    let new = read(&format!("{EXCHANGE}acl_refresh = '1m'\n"));
    assert_eq!(Difference::between(&old, &old).needs_restart, Vec::<String>::new());
    assert_eq!(Difference::between(&old, &new).needs_restart, ["identity.exchange"]);
}
