//! The gate with an issuer whose keys are fetched over HTTP.

mod introspection;
mod revocation;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use zafka_identity::{
    Algorithm, Answered, ClaimName, Claims, Issuer, KafkaTopics, KeySet, Refusal, Rule, Rules,
    TopicPattern, Topics, Verified, Who, verify,
};
use zafka_kafka::config::{ClusterConfig, TopicSelector};
use zafka_oidc::{ClientAuthentication, EndpointConfig, ExchangeConfig, Grant, Secret};
use zafka_sockets::gate::{Access, Gate, Presented, Verdict};
use zafka_testkit::issuer::{AUDIENCE, Serving};
use zafka_zmtp::curve::{KeyPair, SecretKey};
use zafka_zmtp::{Minor, PeerInfo, SocketType, Token};

use super::*;
use crate::config::{IssuerConfig, KafkaExchange};
use crate::issuer_keys::{KeyPlace, KeySource};
use crate::key_folder::Found;

pub const DEADLINE: Duration = Duration::from_secs(30);

pub fn key(number: u8) -> KeyPair {
    KeyPair::new(SecretKey::from_bytes([number; 32]))
}

/// A rule by which a peer with the role `dash` reads `orders`.
pub fn config(issuer: &zafka_testkit::Issuer) -> IdentityConfig {
    let role = ClaimName::parse("/realm_access/roles").unwrap();
    let rule = Rule {
        who: Who::Claims(vec![(role, vec![json!("dash")])]),
        read: Topics::Named(vec![TopicPattern::parse("orders").unwrap()]),
        write: Topics::default(),
    };
    let (name, place) = (issuer.name(), KeyPlace::Discovered);
    let source = KeySource { issuer: name.clone(), place, ca: None, bearer_file: None };
    let issuer = Issuer {
        name,
        audience: vec![AUDIENCE.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        require: Vec::new(),
        keys: Arc::default(),
        introspects: false,
    };
    IdentityConfig {
        keys: vec![key(1)],
        folder: None,
        servers: Vec::new(),
        door: Vec::new(),
        issuers: vec![IssuerConfig { issuer, source, introspection: None }],
        max_lease: Duration::from_secs(3600),
        clock_skew: Duration::from_secs(30),
        exchange: None,
        rules: Rules::new(vec![rule]),
    }
}

/// Asks as the owner of this key does, who shows that.
pub fn presented<T>(number: u8, token: &str, ask: impl FnOnce(&Presented<'_>) -> T) -> T {
    let peer = PeerInfo {
        socket_type: SocketType::Sub,
        minor: Minor::One,
        identity: Bytes::new(),
        metadata: Vec::new(),
        key: Some(key(number).public()),
        token: (!token.is_empty()).then(|| Token::new(token.as_bytes().to_vec())),
    };
    ask(&Presented { route: "r", address: "a", peer: &peer, process: None })
}

/// The gate's verdict on the owner of this key who shows that.
pub fn shown(gate: &Identities, number: u8, token: &str) -> Verdict {
    presented(number, token, |presented| gate.admit(presented, &mut |_| true))
}

#[track_caller]
pub fn admitted(verdict: Verdict) -> Arc<dyn Access> {
    match verdict {
        Verdict::Admitted(access) => access,
        other => panic!("{other:?}"),
    }
}

/// The refusal: whether the peer may try again, and the reason.
#[track_caller]
pub fn kept_out(verdict: Verdict) -> (bool, String) {
    match verdict {
        Verdict::Later(reason) => (true, reason),
        Verdict::Refused(reason) => (false, reason),
        other => panic!("{other:?}"),
    }
}

/// Waits until a token is taken, whose key the relay has to fetch first.
pub async fn wait_admitted(gate: &Identities, number: u8, token: &str) -> Arc<dyn Access> {
    let until = tokio::time::Instant::now() + DEADLINE;
    loop {
        match shown(gate, number, token) {
            Verdict::Admitted(access) => return access,
            other => assert!(tokio::time::Instant::now() < until, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn dash() -> Value {
    json!({ "realm_access": { "roles": ["dash", "other"] } })
}

#[tokio::test]
async fn a_peer_without_a_place_is_not_let_in() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&config(&issuer)).unwrap();
    let gate = &identity.gate;
    let token = issuer.token("alice", 600, &dash());
    drop(wait_admitted(gate, 2, &token).await);
    let admitted = || gate.status().counters.admitted;
    let mut bounded_as = None;
    let verdict = presented(2, &token, |presented| {
        gate.admit(presented, &mut |access| {
            // Nobody is told yet.
            bounded_as = access.bounded_as().map(|subject| (subject, admitted()));
            false
        })
    });
    assert!(matches!(verdict, Verdict::NoPlace), "{verdict:?}");
    assert_eq!(bounded_as, Some((format!("{}\nalice", issuer.name()), 1)));
    assert_eq!(admitted(), 1);
    // A file's key is bounded by itself.
    let claims = Claims::new("keys", "alice", []);
    gate.take(Found { keys: vec![(key(3).public(), claims)], problems: Vec::new() });
    assert_eq!(self::admitted(shown(gate, 3, "")).bounded_as(), None);
}

#[tokio::test]
async fn a_token_lets_a_key_in() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&config(&issuer)).unwrap();
    let gate = &identity.gate;
    let token = issuer.token("alice", 600, &dash());
    let access = wait_admitted(gate, 2, &token).await;
    assert!(access.may_read("orders") && !access.may_read("payments"));
    assert_eq!(access.subject(), Some("alice"));
    let names: Vec<_> = access.properties().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["X-Zafka-Subject", "X-Zafka-Until"]);
    assert!(access.until().is_some_and(|until| until % 1000 == 0));
    // Its lease lets the key in, with the same token, without one, and with nonsense.
    for again in [&token[..], "", "nonsense"] {
        assert_eq!(admitted(shown(gate, 2, again)).subject(), Some("alice"), "{again}");
    }
    let (may_retry, why) = kept_out(shown(gate, 3, &token));
    assert!(may_retry && why.contains("used with another key"), "{why}");
    let (may_retry, why) = kept_out(shown(gate, 3, ""));
    assert!(may_retry && why.contains("not known"), "{why}");
    // Another role: what it had ends, and it is let in with what it has.
    let ends = gate.ends();
    let renewed = admitted(shown(gate, 2, &issuer.token("alice", 900, &json!({}))));
    assert!(!access.holds() && renewed.holds() && !renewed.may_read("orders"));
    assert!(ends.has_changed().unwrap());
    assert!(renewed.until() > access.until());
}

#[tokio::test]
async fn tokens_that_are_not_taken() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&config(&issuer)).unwrap();
    let gate = &identity.gate;
    wait_admitted(gate, 2, &issuer.token("alice", 600, &dash())).await;
    let requests = issuer.requests();
    let good = issuer.token("bob", 600, &dash());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let of = |claims: Value| issuer.token("bob", 600, &claims);
    // One that names a place for keys, where somebody listens.
    let elsewhere = |name: &str| {
        let mut header = json!({ "alg": "ES256", "kid": "key-0" });
        if !name.is_empty() {
            header[name] = issuer.jwks_url().into();
        }
        let payload = json!({
            "iss": issuer.name(), "aud": AUDIENCE, "sub": "carol", "exp": 9_999_999_999_i64,
        });
        issuer.sign(&header.to_string(), &payload.to_string())
    };
    for (token, may_retry, part) in [
        ("nonsense".to_owned(), false, "malformed"),
        (format!("{signed}.{}", "A".repeat(86)), false, "signature"),
        (issuer.token("bob", -31, &dash()), true, "expired"),
        (of(json!({ "nbf": 9_999_999_999_i64 })), true, "not hold yet"),
        (of(json!({ "aud": "another" })), false, "audience"),
        (of(json!({ "iss": "https://another" })), false, "issuer"),
        (of(json!({ "cnf": { "jkt": "another" } })), false, "bound"),
        (issuer.sign("{\"alg\":\"ES256\",\"kid\":\"key-0\"}", "{\"iss\":1}"), false, "claims"),
        (elsewhere("jku"), false, "a header that is not taken"),
        (elsewhere("x5u"), false, "a header that is not taken"),
    ] {
        let (may, why) = kept_out(shown(gate, 4, &token));
        assert!(may == may_retry && why.contains(part), "{part}: {why}");
    }
    assert_eq!(issuer.requests(), requests, "a token makes nobody ask anybody");
    admitted(shown(gate, 4, &good));
    admitted(shown(gate, 6, &elsewhere("")));
    // One that names another key is for the task that fetches keys, at the pace that it has.
    issuer.rotate();
    let (may_retry, why) = kept_out(shown(gate, 5, &of(json!({}))));
    assert!(may_retry && why.contains("key is not known"), "{why}");
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for() {
    let issuer = zafka_testkit::Issuer::start();
    // Nobody fetches keys.
    let gate = Identities::new(&config(&issuer));
    let (may_retry, why) = kept_out(shown(&gate, 2, &issuer.token("alice", 600, &dash())));
    assert!(may_retry && why.contains("key is not known"), "{why}");
    tokio::time::timeout(DEADLINE, gate.unknown_key(0)).await.unwrap();
}

#[tokio::test]
async fn nobody_is_let_in_while_the_provider_was_never_there() {
    let issuer = zafka_testkit::Issuer::start();
    issuer.serve(Serving::Status(503));
    let identity = start(&config(&issuer)).unwrap();
    let gate = &identity.gate;
    let token = issuer.token("alice", 600, &dash());
    let until = tokio::time::Instant::now() + DEADLINE;
    while issuer.requests() == 0 {
        assert!(tokio::time::Instant::now() < until, "nobody asks for keys");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(kept_out(shown(gate, 2, &token)).0);
    issuer.serve(Serving::Well);
    wait_admitted(gate, 2, &token).await;
    // A peer with a lease stays, whatever becomes of the provider.
    drop(issuer);
    admitted(shown(gate, 2, ""));
}

/// The same, but Kafka decides; a provider that exchanges tokens is not there.
fn asking_config(issuer: &zafka_testkit::Issuer) -> IdentityConfig {
    let who = Who::Claims(vec![(ClaimName::parse("iss").unwrap(), vec![json!(issuer.name())])]);
    let rule = Rule { who, read: Topics::Kafka, write: Topics::Kafka };
    let rules = Rules::new(vec![rule]);
    IdentityConfig { exchange: Some(exchange()), rules, ..config(issuer) }
}

/// An exchange at a provider that is not there.
pub fn exchange() -> KafkaExchange {
    let endpoint = EndpointConfig {
        token_url: "http://127.0.0.1:1/token".to_owned(),
        client_id: None,
        authentication: ClientAuthentication::None,
        grant: Grant::ClientCredentials,
        scope: Vec::new(),
        audience: Some("kafka".to_owned()),
        resource: None,
        ca: None,
    };
    let subject_token_type = "urn:ietf:params:oauth:token-type:access_token".to_owned();
    KafkaExchange {
        tokens: ExchangeConfig { endpoint, subject_token_type },
        extensions: Vec::new(),
        acl_refresh: Duration::from_secs(300),
        max_identities: 32,
    }
}

#[tokio::test]
async fn nobody_is_let_in_while_kafka_cannot_be_asked() {
    let issuer = zafka_testkit::Issuer::start();
    let mut identity = start(&asking_config(&issuer)).unwrap();
    let cluster = Cluster::new(&ClusterConfig::new(vec!["127.0.0.1:1".to_owned()]));
    let read = vec![TopicSelector::Name("orders".to_owned())];
    identity.ask(&cluster.unwrap(), AskedTopics { read, write: Vec::new() });
    let token = issuer.token("alice", 600, &json!({}));
    let until = tokio::time::Instant::now() + DEADLINE;
    let mut reasons = Vec::new();
    while reasons.last().is_none_or(|reason| reason != &Refusal::NotAnswered.to_string()) {
        assert!(tokio::time::Instant::now() < until, "{reasons:?}");
        let (may_retry, reason) = kept_out(shown(&identity.gate, 2, &token));
        assert!(may_retry, "{reason}");
        reasons.push(reason);
        reasons.dedup();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(reasons.contains(&Refusal::AsksKafka.to_string()), "{reasons:?}");
    // Its answer lets the peer in, and the next one closes it.
    let gate = &identity.gate;
    let verified = verified_bob(&issuer);
    let answer = |topics: &[&str]| KafkaTopics {
        read: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        ..KafkaTopics::default()
    };
    assert!(gate.begin_lease(
        key(3).public(),
        &verified,
        Some(&answer(&["orders"])),
        &Secret::new("t")
    ));
    let access = admitted(shown(gate, 3, ""));
    assert!(access.may_read("orders") && !access.may_read("other") && access.holds());
    gate.set_answer(&key(3).public(), &answer(&["orders"]));
    assert!(access.holds());
    gate.set_answer(&key(3).public(), &answer(&[]));
    assert!(!access.holds());
    assert!(!admitted(shown(gate, 3, "")).may_read("orders"));
    gate.end_lease(&key(3).public(), "a test");
    assert!(kept_out(shown(gate, 3, "")).0);
    let asked = gate.status().kafka.unwrap();
    let failed = (asked.failed, asked.exchanges_failed);
    assert!(asked.waiting == 1 && failed.0 > 0 && failed.0 == failed.1, "{asked:?}");
    assert_eq!(asked.answered + asked.refused + asked.exchanges_refused, 0, "{asked:?}");
}

#[tokio::test]
async fn a_key_that_waits_for_kafka_at_the_door_counts_as_enrolled_once_it_is() {
    let issuer = zafka_testkit::Issuer::start();
    let gate = Identities::new(&asking_config(&issuer));
    let keys = KeySet::parse(issuer.jwks().to_string().as_bytes()).unwrap();
    gate.set_issuer_keys(0, &Arc::new(keys));
    let text = issuer.token("bob", 600, &json!({}));
    let token = Token::new(text.clone().into_bytes());
    let enrol = || gate.enrol("a", key(3).public(), &token).map_err(|(refusal, _)| refusal);
    assert_eq!(enrol().unwrap_err(), Refusal::AsksKafka);
    let (question, _) = gate.kafka().unwrap().next().unwrap();
    let answered = gate.kafka().unwrap().asked.handle_answer(&question);
    let Some(Answered::Begins(verified, _)) = answered else { panic!("it waits") };
    let nothing = KafkaTopics::default();
    let token = Secret::new("token");
    assert!(gate.begin_lease(key(3).public(), &verified, Some(&nothing), &token));
    assert_eq!(gate.status().counters.enrolled, 0, "nobody was told");
    for _ in 0..2 {
        enrol().unwrap();
        assert_eq!(gate.status().counters.enrolled, 1);
    }
}

#[tokio::test]
async fn a_lease_ends_if_nobody_asks_kafka_any_more() {
    let issuer = zafka_testkit::Issuer::start();
    // Without a task that asks.
    let gate = Identities::new(&asking_config(&issuer));
    let (bob, verified) = (key(3).public(), verified_bob(&issuer));
    let read = ["orders".to_owned()].into_iter().collect();
    let answer = KafkaTopics { read, ..KafkaTopics::default() };
    assert!(gate.begin_lease(bob, &verified, Some(&answer), &Secret::new("token")));
    let begun = std::time::Instant::now();
    gate.kafka().unwrap().asked.handle_begun(bob, Secret::new("token"));
    let access = admitted(shown(&gate, 3, ""));
    gate.end_unanswered(begun + Duration::from_secs(600));
    assert!(access.holds(), "two intervals, and the time to tell of a failure");
    gate.end_unanswered(std::time::Instant::now() + Duration::from_secs(630));
    assert!(!access.holds());
    assert!(kept_out(shown(&gate, 3, "")).0);
}

#[tokio::test]
async fn what_is_kept_of_a_lease_goes_with_it() {
    let issuer = zafka_testkit::Issuer::start();
    let gate = Identities::new(&asking_config(&issuer));
    let (bob, verified) = (key(3).public(), verified_bob(&issuer));
    let (answer, asked) = (KafkaTopics::default(), &gate.kafka().unwrap().asked);
    let token = Secret::new("token");
    assert!(gate.begin_lease(bob, &verified, Some(&answer), &token));
    asked.handle_begun(bob, token);
    let is_kept = || zafka_bridge::Principals::lease(&gate, &bob).is_some();
    assert!(asked.counts() == (0, 1) && is_kept());
    // Other rights: the lease goes on.
    let read = ["orders".to_owned()].into_iter().collect();
    gate.set_answer(&bob, &KafkaTopics { read, ..KafkaTopics::default() });
    assert!(asked.counts() == (0, 1) && is_kept());
    gate.end_lease(&bob, "a test ends it");
    assert!(asked.counts() == (0, 0) && !is_kept());
}

/// A token of bob's that was verified.
fn verified_bob(issuer: &zafka_testkit::Issuer) -> Verified {
    let mut trusted = config(issuer).issuers.remove(0).issuer;
    trusted.keys = Arc::new(KeySet::parse(issuer.jwks().to_string().as_bytes()).unwrap());
    let token = issuer.token("bob", 600, &json!({}));
    let skew = Duration::from_secs(30);
    verify(token.as_bytes(), &key(3).public(), &[trusted], wall_clock(), skew).unwrap()
}

/// Waits until the reasons why peers are kept out hold this text; with an empty one, until there is
/// none.
async fn wait_reason(identity: &Identity, part: &str) -> Vec<String> {
    let until = tokio::time::Instant::now() + DEADLINE;
    loop {
        let reasons = identity.gate.kept_out();
        let is_found = match part {
            "" => reasons.is_empty(),
            part => reasons.iter().any(|reason| reason.contains(part)),
        };
        if is_found {
            return reasons;
        }
        assert!(tokio::time::Instant::now() < until, "no {part:?} in {reasons:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_provider_that_does_not_do_its_work_keeps_everybody_out_until_it_does() {
    let issuer = zafka_testkit::Issuer::start();
    for (serving, part) in [
        (Serving::Hanging, "they were not fetched yet"),
        (Serving::Status(503), "status 503"),
        (Serving::Garbage, "no plain JSON object"),
    ] {
        let before = issuer.requests();
        issuer.serve(serving);
        let identity = start(&config(&issuer)).unwrap();
        let token = issuer.token("alice", 600, &dash());
        let until = tokio::time::Instant::now() + DEADLINE;
        while issuer.requests() == before {
            assert!(tokio::time::Instant::now() < until, "{serving:?}: nobody asks for keys");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let reasons = wait_reason(&identity, part).await;
        assert!(reasons[0].contains(&issuer.name()), "{serving:?}: {reasons:?}");
        let (may_retry, why) = kept_out(shown(&identity.gate, 2, &token));
        assert!(may_retry && why.contains("key is not known"), "{serving:?}: {why}");
        // It comes back by itself.
        issuer.serve(Serving::Well);
        wait_reason(&identity, "").await;
        admitted(shown(&identity.gate, 2, &token));
        let status = identity.gate.status();
        assert_eq!((status.issuers[0].keys, status.issuers[0].failures), (1, 0), "{serving:?}");
    }
}
