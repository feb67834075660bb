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
    let route = examples.find(|example| example.contains("as_peer")).unwrap();
    let text = format!(
        "[kafka]\nbootstrap_servers = ['a:1']\n[kafka.security]\ntls = true\n{example}\n{route}"
    );
    let loaded = read_in(&folder(), &text).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.config.identity.unwrap().rules.ask_kafka());
    assert!(loaded.config.ingest[0].as_peer);
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
            with(&format!("{EXCHANGE}max_identities = 0\n"), ASKS),
            "identity.exchange.max_identities",
            "1 to 1000",
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

/// A route of ROUTER, with these keys in place of its own.
fn to_kafka(from: &str, to: &str) -> String {
    format!(
        "[[route]]\nname = 'in'\nfrom.zmq = {{ bind = ['tcp://*:2'], frames = ['{{value}}'], \
         {from} }}\n\
         to.kafka = {{ topic = 'w', {to} }}\n"
    )
}

#[test]
fn routes_that_write_as_their_peers_do() {
    let folder = folder();
    let router = "socket = 'router'";
    let route = to_kafka(router, "as_peer = true");
    let text = format!("{}{route}", with(&format!("{EXCHANGE}max_identities = 7\n"), RULE));
    let loaded = read_in(&folder, &text).unwrap();
    let idle = |warning: &Warning| warning.text.contains("no token is exchanged");
    assert!(!loaded.warnings.iter().any(idle), "{:?}", loaded.warnings);
    assert!(loaded.config.ingest[0].as_peer);
    assert_eq!(loaded.config.identity.unwrap().exchange.unwrap().max_identities, 7);
    let text = format!("{}{}", with(EXCHANGE, RULE), to_kafka(router, "as_peer = false"));
    let loaded = read_in(&folder, &text).unwrap();
    assert!(loaded.warnings.iter().any(idle), "{:?}", loaded.warnings);
    assert!(!loaded.config.ingest[0].as_peer);
    let changes = Difference::between(
        &loaded.config,
        &read_in(&folder, &text.replace("= false", "= true")).unwrap().config,
    );
    let of_route = changes.routes.iter().find(|(name, _)| name == "in").unwrap();
    assert_eq!(of_route.1, RouteChange::Changed(vec!["route.to.kafka.as_peer".to_owned()]));
    assert_eq!(loaded.config.identity.unwrap().exchange.unwrap().max_identities, 32);

    let key = "route.to.kafka.as_peer";
    let is_on = "as_peer = true";
    for (exchange, from, to, part) in [
        (EXCHANGE, "socket = 'pull'", is_on, "only with `socket = \"router\"`"),
        (EXCHANGE, "socket = 'sub', subscribe = ['']", is_on, "cannot be told that Kafka refuses"),
        ("", router, is_on, "true only together with `[identity.exchange]`"),
        (EXCHANGE, router, "as_peer = true, producer = 'librdkafka'", "`producer = \"fast\"`"),
        (EXCHANGE, router, "as_peer = 'yes'", "true or false"),
    ] {
        let text = format!("{}{}", with(exchange, RULE), to_kafka(from, to));
        expect_in(&folder, &text, &[(key, part)]);
    }
    // Without [identity] there is nobody in whose name to write.
    let text = format!("[kafka]\nbootstrap_servers = ['a:1']\n{}", to_kafka(router, is_on));
    expect_in(&folder, &text, &[(key, "`[identity.exchange]` is missing")]);
}

#[test]
fn another_exchange_needs_a_restart() {
    let folder = folder();
    let read = |exchange: &str| read_in(&folder, &with(exchange, ASKS)).unwrap().config;
    let old = read(EXCHANGE);
    assert_eq!(Difference::between(&old, &old).needs_restart, Vec::<String>::new());
    for key in ["acl_refresh = '1m'", "max_identities = 33"] {
        let new = read(&format!("{EXCHANGE}{key}\n"));
        assert_eq!(Difference::between(&old, &new).needs_restart, ["identity.exchange"]);
    }
}
