//! `[identity]`, and endpoints that are secured by it.

mod exchange;
mod introspection;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use zafka_identity::{Algorithm, Certificate, Claims};
use zafka_sockets::config::EndpointConfig;
use zafka_zmtp::Mechanism;
use zafka_zmtp::curve::{KeyPair, SecretKey};

use super::difference::{Difference, RouteChange};
use super::*;
use crate::issuer_keys::KeyPlace;

fn keys(number: u8) -> KeyPair {
    KeyPair::new(SecretKey::from_bytes([number; 32]))
}

/// A folder with the relay's key, that of a peer in `keys.d`, and that of a server.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(folder.path().join("keys.d")).unwrap();
    write("relay.key_secret", &Certificate::secret_text(&keys(1)), 0o600);
    write("old.key_secret", &Certificate::secret_text(&keys(2)), 0o600);
    write("open.key_secret", &Certificate::secret_text(&keys(3)), 0o644);
    write("relay.key", &Certificate::public_text(&keys(1)), 0o644);
    write("hub.key", &Certificate::public_text(&keys(4)), 0o644);
    write("keys.d/dashboard.key", &Certificate::public_text(&keys(5)), 0o644);
    folder
}

fn read_in(folder: &tempfile::TempDir, text: &str) -> Result<Loaded, Vec<Mistake>> {
    parse(text, folder.path(), &variable, false, None)
}

/// A file with these keys of `[identity]` (line 4), rules, and keys of `to.zmq`.
fn file(identity: &str, to: &str) -> String {
    format!(
        "[kafka]\nbootstrap_servers = ['a:1']\n[identity]\n{identity}\n[[route]]\nname = 'r'\n\
         from.kafka = {{ topics = ['t'] }}\nto.zmq = {{ socket = 'pub', {to} }}\n"
    )
}

const SECRET: &str = "secret_key_file = 'relay.key_secret'";
const RULE: &str = "[[identity.access]]\nwho = { sub = 'dashboard' }\nread = ['t']";
const ISSUER: &str = "[[identity.issuer]]\nissuer = 'https://id'\naudience = ['a']";
const TCP: &str = "bind = ['tcp://*:1']";

#[track_caller]
fn expect_in(folder: &tempfile::TempDir, text: &str, expected: &[(&str, &str)]) {
    let mistakes = read_in(folder, text).expect_err(text);
    let shown: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert_eq!(mistakes.len(), expected.len(), "{text}\n{shown}");
    for (mistake, (key, part)) in mistakes.iter().zip(expected) {
        assert_eq!(mistake.key, *key, "{shown}");
        assert!(mistake.to_string().contains(part), "expected {part:?}\n{shown}");
    }
    for number in 1..=5 {
        assert!(!shown.contains(&keys(number).secret().expose_z85()), "{shown}");
    }
}

#[test]
fn what_the_book_shows_is_read() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let text = format!("[kafka]\nbootstrap_servers = ['a:1']\n{example}");
    let config = read_in(&folder(), &text).unwrap().config;
    let identity = config.identity.unwrap();
    assert_eq!(identity.keys[0].public(), keys(1).public());
    let claims = |name| Claims::new("keys", name, []);
    let grant = identity.rules.grant(Some(&claims("dashboard")));
    assert!(grant.may_read("orders") && !grant.may_read("payments") && !grant.may_write("orders"));
    let grant = identity.rules.grant(Some(&claims("plc-7")));
    assert!(grant.may_write("edge.plc-7") && !grant.may_write("edge.plc-8"));
    let tokens = page.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let route = "[[route]]\nname = 'r'\nfrom.kafka = { topics = ['t'] }\n\
                 to.zmq = { socket = 'pub', bind = ['tcp://*:1'] }\n";
    let text = format!("[kafka]\nbootstrap_servers = ['a:1']\n{tokens}\n{route}");
    let issuers = read_in(&folder(), &text).unwrap().config.identity.unwrap().issuers;
    assert_eq!(issuers[0].issuer.audience, ["zafka-edge"]);
    for mechanism in [&config.routes[0].socket.bind[0], &config.ingest[0].socket.bind[0]] {
        assert!(matches!(mechanism.mechanism, Mechanism::CurveServer(_)));
    }
}

#[test]
fn each_endpoint_is_secured() {
    let folder = folder();
    let to = "bind = ['tcp://*:1', 'ipc:///a', { endpoint = 'tcp://127.0.0.1:2', \
              mechanism = 'null' }, { endpoint = 'tcp://[::1]:3', mechanism = 'curve' }], \
              connect = [{ endpoint = 'tcp://hub:4', server_key_file = 'hub.key' }, 'ipc:///b']";
    let identity = format!("{SECRET}\nprevious_secret_key_file = 'old.key_secret'\n{RULE}");
    let config = read_in(&folder, &file(&identity, to)).unwrap().config;
    let socket = &config.routes[0].socket;
    let shown: Vec<_> = socket
        .bind
        .iter()
        .chain(&socket.connect)
        .map(|config| match &config.mechanism {
            Mechanism::Null => format!("{config} null"),
            Mechanism::CurveServer(side) => format!("{config} {} keys", side.keys.len()),
            Mechanism::CurveClient(side) => format!("{config} {}", side.server == keys(4).public()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "tcp://*:1 2 keys",
            "ipc:///a null",
            "tcp://127.0.0.1:2 null",
            "tcp://[::1]:3 2 keys",
            "tcp://hub:4 true",
            "ipc:///b null",
        ]
    );
    let servers = config.identity.unwrap().servers;
    assert_eq!(servers, [(keys(4).public(), Claims::new("keys", "hub", []))]);
    // Without the table all is as it was.
    let config = read(&with_route(FROM, TO)).unwrap().config;
    assert!(config.identity.is_none());
    assert_eq!(config.routes[0].socket.bind[0].mechanism, Mechanism::Null);
}

#[test]
fn mistakes_of_endpoints() {
    let folder = folder();
    let identity = format!("{SECRET}\n{RULE}");
    for (to, key, part) in [
        (
            "bind = [{ endpoint = 'tcp://*:1', mechanism = 'null' }]",
            "route.to.zmq.bind",
            "loopback",
        ),
        ("bind = [{ endpoint = 'ipc:///a', mechanism = 'curve' }]", "route.to.zmq.bind", "kernel"),
        (
            "bind = [{ endpoint = 'tcp://*:1', mechanism = 'plain' }]",
            "endpoint.mechanism",
            "not available",
        ),
        (
            "bind = [{ endpoint = 'tcp://*:1', server_key_file = 'hub.key' }]",
            "route.to.zmq.bind",
            "only in `connect`",
        ),
        ("bind = [{ mechanism = 'curve' }]", "endpoint.endpoint", "missing"),
        ("bind = [1]", "route.to.zmq.bind", "found 1"),
        ("connect = ['tcp://h:1']", "route.to.zmq.connect", "the peer's key is missing"),
        (
            "connect = [{ endpoint = 'tcp://h:1', server_key_file = 'none.key' }]",
            "endpoint.server_key_file",
            "cannot be read",
        ),
        ("bind = []", "route.to.zmq.bind", "empty"),
    ] {
        expect_in(&folder, &file(&identity, to), &[(key, part)]);
    }
    expect(
        &with_route(
            FROM,
            "socket = 'pub', bind = [{ endpoint = 'tcp://*:1', mechanism = 'curve' }]",
        ),
        &[(6, "route.to.zmq.bind", "mechanism \"curve\" without keys", "[identity]")],
    );
}

#[test]
fn mistakes_of_identity() {
    let folder = folder();
    fs::write(folder.path().join("bad.key_secret"), "curve\n    public-key = \"x\"\n").unwrap();
    for (identity, expected) in [
        (RULE.to_owned(), ("identity.secret_key_file", "missing")),
        (
            "secret_key_file = 'relay.key'".to_owned(),
            ("identity.secret_key_file", "this is the public file"),
        ),
        (
            "secret_key_file = 'open.key_secret'".to_owned(),
            ("identity.secret_key_file", "chmod 600"),
        ),
        (
            "secret_key_file = 'bad.key_secret'".to_owned(),
            ("identity.secret_key_file", "1 characters, a key in Z85 has 40"),
        ),
        (format!("{SECRET}\nkeys = 'nowhere'"), ("identity.keys", "no folder")),
        (
            format!("{SECRET}\n[[identity.access]]\nread = ['t']"),
            ("identity.access.who", "missing"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = 'all'\nread = ['t']"),
            ("identity.access.who", "any-key"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = {{}}\nread = ['t']"),
            ("identity.access.who", "empty table"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = {{ a = 1.5 }}\nread = ['t']"),
            ("identity.access.who", "found 1.5"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = {{ a = [] }}\nread = ['t']"),
            ("identity.access.who", "empty list"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = {{ '/a~2' = 1 }}\nread = ['t']"),
            ("identity.access.who", "JSON pointer"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = 'any-key'"),
            ("identity.access.read", "neither"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = 'any-key'\nread = ['/t/']"),
            ("identity.access.read", "not anchored"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = 'any-key'\nread = ['__x']"),
            ("identity.access.read", "internal"),
        ),
        (
            format!("{SECRET}\n[[identity.access]]\nwho = 'any-key'\nread = ['t']\ngroups = ['g']"),
            ("identity.access.groups", "not available in this version"),
        ),
        (
            format!("{SECRET}\nbind = ['tcp://*:2']\n{RULE}"),
            ("identity.bind", "`issuer` is missing"),
        ),
        (
            format!("{SECRET}\nbind = ['ipc:///a']\n{ISSUER}\n{RULE}"),
            ("identity.bind", "tcp://HOST:PORT"),
        ),
        (format!("{SECRET}\nbind = []\n{ISSUER}\n{RULE}"), ("identity.bind", "empty list")),
        (
            format!("{SECRET}\nbind = ['tcp://127.0.0.1:1']\n{ISSUER}\n{RULE}"),
            ("route.to.zmq.bind", "bound twice"),
        ),
        (format!("{SECRET}\nmax_lease = '0s'\n{RULE}"), ("identity.max_lease", "from 1s to")),
        (format!("{SECRET}\nclock_skew = '1h'\n{RULE}"), ("identity.clock_skew", "to 5m")),
    ] {
        expect_in(&folder, &file(&identity, TCP), &[expected]);
    }
}

#[test]
fn keys_in_the_folder_are_looked_at() {
    let folder = folder();
    let secret = Certificate::secret_text(&keys(6));
    fs::write(folder.path().join("keys.d/leaked.key"), secret).unwrap();
    let text = file(&format!("{SECRET}\nkeys = 'keys.d'\n{RULE}"), TCP);
    expect_in(&folder, &text, &[("identity.keys", "leaked.key: it holds a secret key")]);
    fs::remove_file(folder.path().join("keys.d/leaked.key")).unwrap();
    let loaded = read_in(&folder, &text).unwrap();
    assert_eq!(loaded.warnings, []);
    let without_rules = file(&format!("{SECRET}\nkeys = 'keys.d'"), TCP);
    let warnings = read_in(&folder, &without_rules).unwrap().warnings;
    assert!(warnings[0].text.contains("no peer may read or write"), "{warnings:?}");
}

#[test]
fn keys_and_rules_need_a_restart_if_they_differ() {
    let folder = folder();
    let read = |identity: &str, to: &str| {
        let text = file(identity, to);
        read_in(&folder, &text).map(|loaded| loaded.config).expect(&text)
    };
    let hub =
        "bind = ['tcp://*:1'], connect = [{ endpoint = 'tcp://h:1', server_key_file = 'hub.key' }]";
    let plain = "bind = [{ endpoint = 'tcp://127.0.0.1:1', mechanism = 'null' }]";
    let old = read(&format!("{SECRET}\n{RULE}"), plain);
    for (identity, to, expected) in [
        (format!("{SECRET}\n{RULE}"), plain, &[][..]),
        (
            format!("secret_key_file = 'old.key_secret'\n{RULE}"),
            plain,
            &["identity.secret_key_file"],
        ),
        (
            format!("{SECRET}\nprevious_secret_key_file = 'old.key_secret'\n{RULE}"),
            plain,
            &["identity.previous_secret_key_file"],
        ),
        (format!("{SECRET}\nkeys = 'keys.d'\n{RULE}"), plain, &["identity.keys"]),
        (format!("{SECRET}\n{}", RULE.replace("['t']", "['/^t$/']")), plain, &["identity.access"]),
        (format!("{SECRET}\n{}", RULE.replace("dashboard", "d")), plain, &["identity.access"]),
        (format!("{SECRET}\n{RULE}"), hub, &["endpoint.server_key_file"]),
        (format!("{SECRET}\nmax_lease = '1h'\n{RULE}"), plain, &["identity.max_lease"]),
        (format!("{SECRET}\nclock_skew = '1s'\n{RULE}"), plain, &["identity.clock_skew"]),
        (format!("{SECRET}\n{ISSUER}\n{RULE}"), plain, &["identity.issuer"]),
        (
            format!("{SECRET}\nbind = ['tcp://*:2']\n{ISSUER}\n{RULE}"),
            plain,
            &["identity.bind", "identity.issuer"],
        ),
    ] {
        let new = read(&identity, to);
        let one_way = Difference::between(&old, &new).needs_restart;
        assert_eq!(one_way, expected, "{identity}");
        assert_eq!(Difference::between(&new, &old).needs_restart, one_way, "{identity}");
    }
    // How an endpoint is secured is a matter of its route alone.
    let curve = read(&format!("{SECRET}\n{RULE}"), "bind = ['tcp://127.0.0.1:1']");
    let difference = Difference::between(&old, &curve);
    assert!(difference.needs_restart.is_empty(), "{difference:?}");
    let keys = vec!["route.to.zmq.bind".to_owned()];
    assert_eq!(difference.routes, [("r".to_owned(), RouteChange::Changed(keys))]);
    let none = file("", plain).replace("[identity]", "");
    let without = read_in(&folder, &none).unwrap().config;
    assert_eq!(Difference::between(&old, &without).needs_restart, ["identity"]);
}

#[test]
fn issuers_are_read() {
    let folder = folder();
    fs::write(folder.path().join("bearer"), "t").unwrap();
    let identity = format!(
        "{SECRET}\nmax_lease = '1h'\n\
         [[identity.issuer]]\nissuer = 'https://id.example.com/realms/edge'\n\
         audience = ['a', 'b']\n\
         algorithms = ['ES256']\nrequire = {{ azp = ['x', 'y'] }}\nbearer_file = 'bearer'\n\
         [[identity.issuer]]\nissuer = 'kubernetes/serviceaccount'\naudience = ['a']\n\
         jwks_url = 'https://10.0.0.1/keys'\n{RULE}"
    );
    let identity = read_in(&folder, &file(&identity, TCP)).unwrap().config.identity.unwrap();
    assert_eq!(identity.max_lease, Duration::from_secs(3600));
    assert_eq!(identity.clock_skew, Duration::from_secs(30));
    let [one, other] = &identity.issuers[..] else { panic!("{:?}", identity.issuers) };
    assert_eq!(one.issuer.name, "https://id.example.com/realms/edge");
    assert_eq!(one.issuer.audience, ["a", "b"]);
    assert_eq!(one.issuer.algorithms, [Algorithm::Es256]);
    assert_eq!(one.issuer.require.len(), 1);
    assert_eq!(one.source.place, KeyPlace::Discovered);
    assert_eq!(one.source.bearer_file, Some(folder.path().join("bearer")));
    assert_eq!(other.issuer.algorithms, Algorithm::ALL);
    assert_eq!(other.source.place, KeyPlace::Url("https://10.0.0.1/keys".to_owned()));
}

#[test]
fn mistakes_of_issuers() {
    let folder = folder();
    fs::write(folder.path().join("jwks.json"), "{\"keys\":[]}").unwrap();
    let id = "issuer = 'https://id.example.com'";
    let aud = "audience = ['a']";
    for (lines, key, part) in [
        (aud.to_owned(), "identity.issuer.issuer", "missing"),
        (id.to_owned(), "identity.issuer.audience", "missing"),
        (format!("{id}\naudience = []"), "identity.issuer.audience", "empty list"),
        (
            format!("issuer = 'http://id.example.com'\n{aud}"),
            "identity.issuer.issuer",
            "other keys",
        ),
        (format!("issuer = 'id'\n{aud}"), "identity.issuer.issuer", "another scheme"),
        (
            format!("issuer = 'keys'\njwks_url = 'https://id/keys'\n{aud}"),
            "identity.issuer.issuer",
            "stands for peers without a token",
        ),
        (format!("issuer = 'https://u:p@id'\n{aud}"), "identity.issuer.issuer", "credentials"),
        (
            format!("{id}\n{aud}\nalgorithms = ['HS256']"),
            "identity.issuer.algorithms",
            "could also",
        ),
        (format!("{id}\n{aud}\nalgorithms = ['none']"), "identity.issuer.algorithms", "anyone"),
        (format!("{id}\n{aud}\nalgorithms = ['RS1']"), "identity.issuer.algorithms", "RS256"),
        (format!("{id}\n{aud}\nrequire = 'x'"), "identity.issuer.require", "table of claims"),
        (format!("{id}\n{aud}\njwks_file = 'none'"), "identity.issuer.jwks_file", "cannot be read"),
        (format!("{id}\n{aud}\njwks_file = 'jwks.json'"), "identity.issuer.jwks_file", "no key"),
        (
            format!("{id}\n{aud}\nintrospection = {{}}"),
            "identity.issuer.introspection.client_secret",
            "is required by introspection",
        ),
        (
            format!("{id}\n{aud}\n[[identity.issuer]]\n{id}\n{aud}"),
            "identity.issuer.issuer",
            "second time",
        ),
    ] {
        let identity = format!("{SECRET}\n[[identity.issuer]]\n{lines}\n{RULE}");
        expect_in(&folder, &file(&identity, TCP), &[(key, part)]);
    }
}

#[test]
fn the_door_and_the_control_socket() {
    let folder = folder();
    let door = "bind = ['tcp://*:2', 'tcp://127.0.0.1:*']";
    let admin = "[admin]\nbind = '127.0.0.1:9'\ncontrol = 'control.sock'\n";
    let text = file(&format!("{SECRET}\n{door}\n{ISSUER}\n{RULE}"), TCP) + admin;
    let config = read_in(&folder, &text).unwrap().config;
    let identity = config.identity.as_ref().unwrap();
    let shown: Vec<_> = identity.door.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["tcp://*:2", "tcp://127.0.0.1:*"]);
    let is_curve = |bind: &EndpointConfig| matches!(bind.mechanism, Mechanism::CurveServer(_));
    assert!(identity.door.iter().all(is_curve));
    let control = config.admin.as_ref().unwrap().control.clone();
    assert_eq!(control, Some(folder.path().join("control.sock")));
    let other = read_in(&folder, &text.replace("control.sock", "c.sock")).unwrap().config;
    let difference = Difference::between(&config, &other);
    assert_eq!(difference.needs_restart, ["admin.control"]);
    // Without [identity] there is nothing to control.
    let plain = with_route(FROM, TO) + admin;
    expect(&plain, &[(9, "admin.control", "`[identity]` is missing", "together with")]);
}
