//! The CURVE clients in `examples/`, in five languages, at a PUB and a ROUTER of ours: with keys
//! that are known, and with tokens, in the handshake or at the door.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use zafka_testkit::child::{Running, command};
use zafka_testkit::issuer::AUDIENCE;
use zafka_testkit::paths::RunDir;
use zafka_testkit::{Issuer, KafkaNode, Zafka, unique, wait_until};

use super::Keys;
use crate::ZAFKA;
use crate::common::{endpoint, partition};
use crate::examples::{DEADLINE, Example, examples};

/// The programs of the README's second table, by language.
fn programs() -> Vec<(Example, String)> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/README.md");
    let text = fs::read_to_string(text).unwrap();
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows: Vec<_> = rows
        .filter_map(|cells| match cells[..] {
            ["", language, program, ""] if program.to_lowercase().contains("curve") => {
                Some((language.to_lowercase(), program.trim_matches('`').to_owned()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(rows.len(), 5, "languages in the second table of examples/README.md");
    let mut examples = examples();
    let of = |language: &str| examples.iter().position(|example| example.language == language);
    let order: Vec<_> = rows.iter().map(|(language, _)| of(language).unwrap()).collect();
    let mut examples: Vec<_> = examples.drain(..).map(Some).collect();
    let examples = order.into_iter().map(|index| examples[index].take().unwrap());
    examples.zip(rows).map(|(example, (_, program))| (example, program)).collect()
}

/// The ways by which a language's client lets in a key that is not known, each with that key: a
/// token in the handshake, or an enrolment at the door. The libraries of some can do only the one.
fn ways_in(language: &str) -> Vec<(WayIn, String)> {
    let own = stranger(language);
    match language {
        "go" | "java" => vec![(WayIn::Door, own)],
        "c" => vec![(WayIn::Handshake, own), (WayIn::Door, stranger("c-at-the-door"))],
        _ => vec![(WayIn::Handshake, own)],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WayIn {
    Handshake,
    Door,
}

/// The name of a key that the relay does not know.
fn stranger(language: &str) -> String {
    format!("stranger-{language}")
}

/// A relay with a route in and a route out of one topic, and what its clients need.
struct Stage {
    relay: Zafka,
    keys: Keys,
    issuer: Issuer,
    topic: String,
    /// The ways in and out, and the door.
    ways: [(&'static str, String); 3],
    logs: RunDir,
}

impl Stage {
    fn new(languages: &[&str]) -> Self {
        let kafka = KafkaNode::shared();
        let topic = unique("curve");
        kafka.admin().create_topic(&topic, 1, &[]);
        let strangers = languages.iter().flat_map(|language| ways_in(language));
        let strangers: Vec<_> = strangers.map(|(_, key)| key).collect();
        let strangers: Vec<_> = strangers.iter().map(String::as_str).collect();
        let keys = Keys::make(&[&["relay", "other"], languages, &strangers].concat(), languages);
        let issuer = Issuer::start();
        let ways = [("sub", endpoint()), ("dealer", endpoint()), ("enrol", endpoint())];
        let rule = format!(
            "bind = [{1:?}]\n[[identity.issuer]]\nissuer = {0:?}\naudience = [{AUDIENCE:?}]\n\
             [[identity.access]]\nwho = {{ iss = [\"keys\", {0:?}] }}\nread = [\"{topic}\"]\n\
             write = [\"{topic}\"]",
            issuer.name(),
            ways[2].1
        );
        let toml = format!(
            "[kafka]\nbootstrap_servers = [\"{}\"]\n{}\
             [[route]]\nname = \"out\"\nfrom.kafka = {{ topics = [\"{topic}\"], \
             start = \"earliest\" }}\n\
             to.zmq = {{ socket = \"pub\", bind = [\"{}\"], frames = [\"{{topic}}\", \
             \"{{value}}\"], slow_peer = \"block\" }}\n\
             [[route]]\nname = \"in\"\n\
             from.zmq = {{ socket = \"router\", bind = [\"{}\"], frames = [\"{{topic}}\", \
             \"{{value}}\"] }}\n\
             to.kafka = {{ topics = [\"{topic}\"] }}\n",
            kafka.bootstrap(),
            keys.toml(&rule),
            ways[0].1,
            ways[1].1,
        );
        let relay = Zafka::run(ZAFKA, &toml);
        Self { relay, keys, issuer, topic, ways, logs: RunDir::new("curve") }
    }

    /// Starts a language's client of one kind.
    fn start(
        &self,
        client: &(Example, String),
        way: usize,
        keys: [&str; 2],
        words: &[&str],
    ) -> Running {
        self.start_with(client, way, keys, words, "")
    }

    /// The same; it shows a token, unless that is empty.
    fn start_with(
        &self,
        (example, program): &(Example, String),
        way: usize,
        [server, ours]: [&str; 2],
        words: &[&str],
        token: &str,
    ) -> Running {
        let (kind, endpoint) = &self.ways[way];
        let (server, secret) = (self.keys.public(server), self.keys.secret(ours));
        let mut line =
            format!("exec {program} {kind} {} {} {endpoint}", server.display(), secret.display());
        words.iter().for_each(|word| line.push_str(&format!(" '{word}'")));
        let mut shell = command("sh");
        shell.args(["-c", &line]).current_dir(example.prepare());
        if !token.is_empty() {
            let file = self.logs.join(&format!("{}.jwt", example.language));
            fs::write(&file, format!("{token}\n")).unwrap();
            shell.env("TOKEN_FILE", file);
        }
        let name = format!("{}-{kind}-{}-{ours}", example.language, server.display());
        Running::start(shell, &self.logs.join(&name.replace('/', "_")))
    }

    /// Number of the clients whose HELLO did not open, at each of the two routes.
    fn misled(status: &Value) -> [u64; 2] {
        let of = |closed: &Value| {
            let mut reasons = closed.as_array().into_iter().flatten();
            let found = reasons.find(|reason| reason[0] == "curve_key");
            found.and_then(|reason| reason[1].as_u64()).unwrap_or(0)
        };
        let [out, into] = [&status["routes"][0]["counters"], &status["ingest"][0]["counters"]];
        [of(&out["peers_closed"]), of(&into["senders_closed"])]
    }
}

#[test]
#[ignore = "needs Java and Maven, Python, Node, Go, a C compiler, libzmq3-dev and the registries"]
fn clients_of_every_language_are_let_in_by_their_keys() {
    let programs = programs();
    let languages: Vec<_> = programs.iter().map(|(example, _)| &*example.language).collect();
    let mut stage = Stage::new(&languages);
    let mut offset = 0;
    for program in &programs {
        let language = &*program.0.language;
        let status = stage.relay.wait_status("the relay", DEADLINE, |_| true);
        let (before, stranger) = (Stage::misled(&status), stranger(language));
        let topic = stage.topic.clone();
        let mut shut_out = Vec::new();
        for keys in [["other", language], ["relay", &stranger]] {
            shut_out.push(stage.start(program, 0, keys, &[&topic]));
            shut_out.push(stage.start(program, 1, keys, &[&topic, "not this"]));
        }
        stage.relay.wait_status("clients that take another for the relay", DEADLINE, |status| {
            let now = Stage::misled(status);
            now[0] > before[0] && now[1] > before[1]
        });
        let certificate = fs::read_to_string(stage.keys.public(&stranger)).unwrap();
        let key = certificate.split('"').nth(1).unwrap().to_owned();
        wait_until("clients that nobody knows", DEADLINE, || {
            let log = stage.relay.log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains(&key)).collect();
            ["out", "in"].iter().all(|route| {
                let route = format!("route=\"{route}\"");
                lines.iter().any(|line| line.contains(&route))
            })
        });
        for client in &mut shut_out {
            assert!(client.is_running(), "{language}: {}", client.log());
            assert_eq!(client.log(), "", "{language} got something");
        }
        drop(shut_out);

        let mut sub = stage.start(program, 0, ["relay", language], &[&topic]);
        stage
            .relay
            .wait_status("it subscribes", DEADLINE, |status| super::peers(status) == [language]);
        let text = format!("from {language}");
        let mut dealer = stage.start(program, 1, ["relay", language], &[&topic, &text]);
        let exit = dealer.wait_exit(DEADLINE);
        assert!(exit.is_some_and(|exit| exit.success()), "{language}: {}", dealer.log());
        assert!(dealer.log().starts_with("OK {"), "{language}: {}", dealer.log());
        assert!(dealer.log().contains(&format!("\"offset\":{offset}")), "{}", dealer.log());
        offset += 1;
        wait_until("the message", DEADLINE, || {
            assert!(sub.is_running(), "{language}: {}", sub.log());
            sub.log() == format!("{topic} {text}\n")
        });
        drop(sub);

        // Keys that nobody knew are let in by their tokens, the one of before first.
        for (way, key) in ways_in(language) {
            let (mut token, keys) =
                (stage.issuer.token(language, 600, &json!({})), ["relay", &*key]);
            if way == WayIn::Door {
                let mut enrol = stage.start_with(program, 2, keys, &[], &token);
                let exit = enrol.wait_exit(DEADLINE);
                assert!(exit.is_some_and(|exit| exit.success()), "{language}: {}", enrol.log());
                assert!(enrol.log().starts_with("ZAFKA/1 OK {"), "{language}: {}", enrol.log());
                token.clear();
            }
            let text = format!("{way:?}: by a token from {language}");
            let mut dealer = stage.start_with(program, 1, keys, &[&topic, &text], &token);
            let exit = dealer.wait_exit(DEADLINE);
            assert!(exit.is_some_and(|exit| exit.success()), "{language}: {}", dealer.log());
            assert!(dealer.log().starts_with("OK {"), "{language}: {}", dealer.log());
            offset += 1;
        }
        // Before the next subscriber comes.
        stage.relay.wait_status("it is published", DEADLINE, |status| {
            partition(status, &topic, 0)["delivered"] == offset
        });
    }
}
