//! An issuer that has to say that its tokens are active.

use tokio::time::{Instant, sleep};
use zafka_oidc::{IntrospectionConfig, SecretSource};
use zafka_testkit::issuer::INTROSPECTION_SECRET;

use super::*;
use crate::introspection::IntrospectionSource;

/// The relay asks about each lease in this time.
const EVERY: Duration = Duration::from_millis(50);

/// The configuration of a relay that asks this issuer.
fn asking(issuer: &zafka_testkit::Issuer) -> IdentityConfig {
    let mut config = config(issuer);
    let one = &mut config.issuers[0];
    let secret = SecretSource::Text(Secret::new(INTROSPECTION_SECRET));
    let client = IntrospectionConfig {
        client_id: Some("zafka".to_owned()),
        authentication: ClientAuthentication::Secret(secret),
        audience: issuer.name(),
        ca: None,
    };
    one.introspection =
        Some(IntrospectionSource { url: None, client, every: EVERY, keys: one.source.clone() });
    one.issuer.introspects = true;
    config
}

fn introspection(gate: &Identities) -> IntrospectionStatus {
    gate.status().issuers[0].introspection.clone().unwrap()
}

/// Waits until the issuer's answers are so.
async fn wait_answers(gate: &Identities, what: &str, is_so: impl Fn(&IntrospectionStatus) -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so(&introspection(gate)) {
        assert!(Instant::now() < until, "{what}: {:?}", introspection(gate));
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a key is kept out for good, as often as it shows its token.
async fn wait_refused(gate: &Identities, number: u8, token: &str) -> String {
    let until = Instant::now() + DEADLINE;
    loop {
        match shown(gate, number, token) {
            Verdict::Refused(reason) => return reason,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_logout_ends_a_lease_at_once_and_for_good() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&asking(&issuer)).unwrap();
    let gate = &identity.gate;
    let token = |who: &str| issuer.token(who, 600, &dash());
    let [alice, bob] = ["alice", "bob"].map(token);
    let [its, bobs] = [wait_admitted(gate, 2, &alice).await, wait_admitted(gate, 3, &bob).await];
    // Both are asked about again and again, and nothing happens to them.
    let asked = introspection(gate).active;
    wait_answers(gate, "asked again", |asked_now| asked_now.active > asked + 4).await;
    assert!(its.holds() && bobs.holds());

    issuer.deactivate(&alice);
    let until = Instant::now() + DEADLINE;
    while its.holds() {
        assert!(Instant::now() < until, "the lease goes on");
        sleep(Duration::from_millis(5)).await;
    }
    // Neither that key nor another one is let in by this token, and nobody asks about it any more.
    for number in [2, 4] {
        let (may_retry, why) = kept_out(shown(gate, number, &alice));
        assert!(!may_retry && why.contains("says that its token is not active"), "{why}");
    }
    assert_eq!(introspection(gate).inactive, 1);
    assert_eq!(gate.status().counters.refused.get("revoked"), Some(&2));
    assert!(bobs.holds());
    // A new login.
    wait_admitted(gate, 2, &token("alice")).await;
    // A token that was withdrawn before anybody showed it.
    let withdrawn = token("carol");
    issuer.deactivate(&withdrawn);
    let why = wait_refused(gate, 5, &withdrawn).await;
    assert!(why.contains("says that its token is not active"), "{why}");
    assert_eq!(gate.status().leases, 2);
}

#[tokio::test]
async fn the_door_asks_too() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&asking(&issuer)).unwrap();
    let gate = &identity.gate;
    // Its keys are fetched by then.
    wait_admitted(gate, 2, &issuer.token("alice", 600, &dash())).await;
    let token = issuer.token("bob", 600, &dash());
    let enrol = || gate.enrol("a", key(3).public(), &Token::new(token.as_bytes().to_vec()));
    let refusal = enrol().unwrap_err().0;
    assert_eq!((refusal, refusal.code()), (Refusal::AsksIssuer, "try_again"));
    let until = Instant::now() + DEADLINE;
    while let Err((refusal, _)) = enrol() {
        assert!(Instant::now() < until, "{refusal}");
        sleep(Duration::from_millis(5)).await;
    }
    issuer.deactivate(&token);
    let until = Instant::now() + DEADLINE;
    loop {
        match enrol() {
            Err((Refusal::Inactive, _)) => break,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_issuer_that_misbehaves_lets_nobody_in_and_ends_no_lease() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&asking(&issuer)).unwrap();
    let gate = &identity.gate;
    let mut number = 2;
    let held = wait_admitted(gate, number, &issuer.token("alice", 600, &dash())).await;
    for (serving, part) in [
        (Serving::Status(500), "status 500"),
        (Serving::Status(401), "status 401"),
        (Serving::Redirect, "a redirect, which is not followed"),
        (Serving::Huge, "larger than 1 MiB"),
        (Serving::Garbage, "no JSON object"),
        (Serving::OtherIssuer, "neither true nor false"),
    ] {
        issuer.serve_introspection(serving);
        let failed = introspection(gate).failed;
        number += 1;
        let token = issuer.token("bob", 600, &dash());
        let (may_retry, why) = kept_out(shown(gate, number, &token));
        assert!(may_retry && why.contains("is asked whether its token is active"), "{why}");
        wait_answers(gate, part, |asked| {
            asked.failed > failed && asked.error.as_ref().is_some_and(|why| why.contains(part))
        })
        .await;
        let (may_retry, _) = kept_out(shown(gate, number, &token));
        assert!(may_retry && held.holds(), "{serving:?}");
        assert_eq!(gate.status().leases, 1, "{serving:?}");
    }
    // While somebody is kept out by that the relay is not ready; then they are let in.
    let reasons = wait_reason(&identity, "could not be asked whether tokens are active").await;
    assert!(reasons[0].contains("neither true nor false"), "{reasons:?}");
    issuer.serve_introspection(Serving::Well);
    wait_reason(&identity, "").await;
    wait_admitted(gate, 40, &issuer.token("carol", 600, &dash())).await;
    assert!(held.holds());
}

#[tokio::test]
async fn an_issuer_that_hangs_keeps_nobody_waiting_but_those_who_wait_for_it() {
    let issuer = zafka_testkit::Issuer::start();
    let identity = start(&asking(&issuer)).unwrap();
    let gate = &identity.gate;
    let held = wait_admitted(gate, 2, &issuer.token("alice", 600, &dash())).await;
    issuer.serve_introspection(Serving::Hanging);
    let tokens: Vec<_> = (3..23).map(|_| issuer.token("bob", 600, &dash())).collect();
    for (number, token) in (3..23).zip(&tokens) {
        assert!(kept_out(shown(gate, number, token)).0);
    }
    // Some of them are asked about, and one that has a lease; never all.
    let until = Instant::now() + DEADLINE;
    while issuer.hanging() < 9 {
        assert!(Instant::now() < until, "{} questions", issuer.hanging());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(issuer.hanging(), 9, "8 at a time, and one about a lease");
    assert!(admitted(shown(gate, 2, "")).holds() && held.holds());
    issuer.serve_introspection(Serving::Well);
    wait_admitted(gate, 30, &issuer.token("carol", 600, &dash())).await;
}
