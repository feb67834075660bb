//! The door, asked over its socket.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;
use zafka_sockets::{Endpoint, OutboundEvent, OutboundKind, OutboundSocket, Outlet, put_message};
use zafka_testkit::Issuer;
use zafka_zmtp::Mechanism;
use zafka_zmtp::curve::{ClientSide, ServerSide};

use super::*;
use crate::identity::tests::{
    DEADLINE, admitted, config, dash, kept_out, key, shown, wait_admitted,
};
use crate::identity::{Identity, start};
use crate::random::random;

/// An issuer, and a relay's door that knows its keys.
struct Open {
    issuer: Issuer,
    identity: Identity,
    endpoint: Endpoint,
}

impl Open {
    async fn new(clock_skew: Duration) -> Self {
        let issuer = Issuer::start();
        let mut config = config(&issuer);
        config.clock_skew = clock_skew;
        let mut identity = start(&config).unwrap();
        let side = ServerSide { keys: vec![key(1)], random };
        let bind = EndpointConfig {
            endpoint: "tcp://127.0.0.1:*".parse().unwrap(),
            mechanism: Mechanism::CurveServer(Arc::new(side)),
        };
        let (door, messages) = Door::bind(&[bind], &identity.gate).await.unwrap();
        let endpoint = door.endpoints()[0].clone();
        identity.tasks.spawn(door.keep(messages));
        // Its keys are known from then on.
        wait_admitted(&identity.gate, 200, &issuer.token("first", 600, &dash())).await;
        Self { issuer, identity, endpoint }
    }

    fn gate(&self) -> &Identities {
        &self.identity.gate
    }

    /// A token of this subject, which gives it the right to read `orders`.
    fn token(&self, subject: &str) -> String {
        self.issuer.token(subject, 600, &dash())
    }

    async fn client(&self, number: u8) -> Client {
        let side = ClientSide { keys: key(number), server: key(1).public(), token: None, random };
        let mechanism = Mechanism::CurveClient(Arc::new(side));
        let to = EndpointConfig { endpoint: self.endpoint.clone(), mechanism };
        let mut socket = OutboundSocket::new(OutboundKind::Dealer, to);
        match timeout(DEADLINE, socket.next()).await.unwrap() {
            OutboundEvent::Connected(outlet) => Client { socket, outlet },
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a message of a client that has just come: the word, and what it says.
    async fn answer(&self, number: u8, frames: &[&[u8]]) -> (String, Value) {
        let mut client = self.client(number).await;
        client.send(frames, 1).await;
        client.answer().await
    }
}

/// A DEALER at the door.
struct Client {
    socket: OutboundSocket,
    outlet: Outlet,
}

impl Client {
    /// Sends a message so many times, all of them together.
    async fn send(&mut self, frames: &[&[u8]], times: usize) {
        let mut chunk = Vec::new();
        (0..times).for_each(|_| put_message(&mut chunk, frames));
        self.outlet.reserve().await.unwrap().send(chunk);
    }

    /// The next answer or notice; what stands before it is checked.
    async fn answer(&mut self) -> (String, Value) {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.unwrap() {
                OutboundEvent::Message(frames) => {
                    let [first, word, body] = &frames[..] else { panic!("{frames:?}") };
                    assert_eq!(&first[..], wire::WORD);
                    let word = String::from_utf8(word.to_vec()).unwrap();
                    return (word, serde_json::from_slice(body).unwrap());
                }
                OutboundEvent::Written => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn enrol(token: &str) -> String {
    json!({ "id": "7", "token": token }).to_string()
}

#[tokio::test]
async fn a_key_is_enrolled() {
    let open = Open::new(Duration::from_secs(30)).await;
    let (gate, token) = (open.gate(), open.token("alice"));
    assert!(kept_out(shown(gate, 2, "")).0);
    let (word, told) = open.answer(2, &[wire::WORD, b"ENROL", enrol(&token).as_bytes()]).await;
    assert_eq!(word, "OK", "{told}");
    for (name, value) in [("id", json!("7")), ("subject", json!("alice"))] {
        assert_eq!(told[name], value, "{told}");
    }
    assert_eq!((&told["read"], &told["write"]), (&json!(["orders"]), &json!([])), "{told}");
    let left = told["expires_in"].as_i64().unwrap();
    assert!((500..=630).contains(&left), "{told}");
    assert!(told["until"].as_str().unwrap().ends_with('Z'), "{told}");
    let access = admitted(shown(gate, 2, ""));
    assert!(access.may_read("orders") && access.subject() == Some("alice"));
    // The same token once more changes nothing, and another connection renews.
    let (word, _) = open.answer(2, &[wire::WORD, b"ENROL", enrol(&token).as_bytes()]).await;
    assert_eq!(word, "OK");
    let later = open.issuer.token("alice", 900, &dash());
    let (_, renewed) = open.answer(2, &[wire::WORD, b"ENROL", enrol(&later).as_bytes()]).await;
    assert!(renewed["expires_in"].as_i64().unwrap() > left && access.holds(), "{renewed}");
}

/// Rows 79, 84, 110 and 111, and tokens that are not taken: each is the accepted command with one
/// thing changed.
#[tokio::test]
async fn what_the_door_refuses() {
    let open = Open::new(Duration::from_secs(30)).await;
    let good = open.token("alice");
    let body = enrol(&good);
    let (word, told) = open.answer(2, &[wire::WORD, b"ENROL", body.as_bytes()]).await;
    assert_eq!(word, "OK", "{told}");
    let issuer = &open.issuer;
    let (signed, _) = good.rsplit_once('.').unwrap();
    let token = |subject, seconds, claims: Value| enrol(&issuer.token(subject, seconds, &claims));
    let [large, huge] = [12 * 1024, 1 << 20].map(|size| enrol(&"x".repeat(size)));
    let rows: Vec<(u8, Vec<&[u8]>, String, &str)> = vec![
        (3, vec![wire::WORD, b"ENROL"], body.clone(), "token_used"),
        (2, vec![wire::WORD, b"ENROL"], token("bob", 60, dash()), "key_taken"),
        (3, vec![wire::WORD], body.clone(), "malformed"),
        (3, vec![wire::WORD, b"ENROL", b"{}"], body.clone(), "malformed"),
        (3, vec![b"ENROL"], body.clone(), "malformed"),
        (3, vec![wire::WORD, b"ENROL", large.as_bytes()], large.clone(), "malformed"),
        (3, vec![wire::WORD, b"ENROL"], "no JSON".to_owned(), "malformed"),
        (3, vec![wire::WORD, b"ENROL"], json!({ "token": good }).to_string(), "malformed"),
        (3, vec![wire::WORD, b"READ"], body.clone(), "unsupported"),
        (2, vec![wire::WORD, b"READ"], body.clone(), "unsupported"),
        (3, vec![wire::WORD, b"ENROL"], enrol("a.b"), "malformed"),
        (
            3,
            vec![wire::WORD, b"ENROL"],
            enrol(&format!("{signed}.{}", "A".repeat(86))),
            "signature",
        ),
        (3, vec![wire::WORD, b"ENROL"], token("bob", -31, dash()), "expired"),
        (
            3,
            vec![wire::WORD, b"ENROL"],
            token("bob", 60, json!({ "nbf": 9_999_999_999_i64 })),
            "not_yet",
        ),
        (3, vec![wire::WORD, b"ENROL"], token("bob", 60, json!({ "iss": "x" })), "issuer"),
        (3, vec![wire::WORD, b"ENROL"], token("bob", 60, json!({ "aud": "x" })), "audience"),
        (3, vec![wire::WORD, b"ENROL"], token("bob", 60, json!({ "sub": 1 })), "claims"),
        (3, vec![wire::WORD, b"ENROL"], token("bob", 60, json!({ "cnf": {} })), "confirmation"),
    ];
    for (number, frames, body, code) in rows {
        let shown_body = body.get(..body.len().min(100)).unwrap_or_default().to_owned();
        let frames: Vec<&[u8]> = frames.into_iter().chain([body.as_bytes()]).collect();
        let (word, told) = open.answer(number, &frames).await;
        assert_eq!((&*word, &told["code"]), ("ERROR", &json!(code)), "{shown_body}: {told}");
        let may_pass = ["token_used", "key_taken", "expired", "not_yet"].contains(&code);
        assert_eq!(told["retriable"], may_pass, "{told}");
        assert!(!told.to_string().contains(signed), "a token comes back");
        assert!(kept_out(shown(open.gate(), 3, "")).0, "{code}: its key was let in");
    }
    // A frame of a megabyte is not even read.
    let mut client = open.client(3).await;
    client.send(&[wire::WORD, b"ENROL", huge.as_bytes()], 1).await;
    loop {
        match timeout(DEADLINE, client.socket.next()).await.unwrap() {
            OutboundEvent::Disconnected(_) => break,
            OutboundEvent::Written => {}
            other => panic!("{other:?}"),
        }
    }
    issuer.rotate();
    let (_, told) =
        open.answer(3, &[wire::WORD, b"ENROL", token("bob", 60, dash()).as_bytes()]).await;
    assert_eq!(told["code"], "try_again", "{told}");
    assert_eq!(admitted(shown(open.gate(), 2, "")).subject(), Some("alice"), "she stays");
}

/// Row 112: whoever sends more than one command a second is told so, once for all that was read
/// together, and read no faster.
#[tokio::test]
async fn the_door_has_its_pace() {
    let open = Open::new(Duration::from_secs(30)).await;
    let mut client = open.client(2).await;
    let body = enrol(&open.token("alice"));
    let frames = [wire::WORD, b"ENROL", body.as_bytes()];
    client.send(&frames, 1).await;
    assert_eq!(client.answer().await.0, "OK");
    let early = enrol("a.b");
    client.send(&[wire::WORD, b"ENROL", early.as_bytes()], 100).await;
    let (_, told) = loop {
        match client.answer().await {
            // It took more than a second to come here.
            (_, told) if told["code"] == "malformed" => {}
            answer => break answer,
        }
    };
    assert_eq!((&told["code"], &told["retriable"]), (&json!("busy"), &json!(true)), "{told}");
    assert_eq!(told["id"], "7", "{told}");
    assert!(told["retry_after"].as_u64().unwrap() <= 1000, "{told}");
    // It may go on; one that is read with others is thrown away as they are.
    let body = body.replace("\"7\"", "\"8\"");
    for tries in 0.. {
        assert!(tries < 50, "each of the hundred is answered, or it may not go on");
        client.send(&[wire::WORD, b"ENROL", body.as_bytes()], 1).await;
        let answer = timeout(Duration::from_millis(1500), client.answer()).await;
        if answer.is_ok_and(|(word, told)| word == "OK" && told["id"] == "8") {
            break;
        }
    }
}

#[tokio::test]
async fn the_end_of_a_lease_is_told() {
    let open = Open::new(Duration::ZERO).await;
    let mut client = open.client(2).await;
    let told = loop {
        let body = enrol(&open.issuer.token("alice", 3, &dash()));
        client.send(&[wire::WORD, b"ENROL", body.as_bytes()], 1).await;
        match client.answer().await {
            (word, told) if word == "OK" => break told,
            // It took longer to come here than the token holds, or less than a second to ask again.
            (_, told) => assert!(told["code"] == "expired" || told["code"] == "busy", "{told}"),
        }
    };
    let (word, notice) = client.answer().await;
    assert_eq!(word, "LEASE", "{notice}");
    assert_eq!(notice["until"], told["until"]);
    assert!(notice["expires_in"].as_i64().unwrap() <= 3, "{notice}");
}
