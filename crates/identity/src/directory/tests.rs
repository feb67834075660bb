//! Peers that are let in, and for how long.

use std::time::Instant;

use serde_json::json;
use zafka_zmtp::curve::SecretKey;

use super::*;
use crate::claims::{ClaimName, ISSUER_KEYS, ISSUER_PEERCRED};
use crate::pattern::TopicPattern;
use crate::token::{TokenId, claimed_end};
use crate::{Rule, Topics, Who};

fn key(number: u8) -> PublicKey {
    SecretKey::from_bytes([number; 32]).public_key()
}

fn machine(name: &str) -> Claims {
    Claims::new(ISSUER_KEYS, name, [])
}

fn rule(who: Who, topic: &str) -> Rule {
    let topics = vec![TopicPattern::parse(topic).unwrap()];
    Rule { who, read: Topics::Named(topics), write: Topics::default() }
}

fn is(claim: &str, value: impl Into<serde_json::Value>) -> Who {
    Who::Claims(vec![(ClaimName::parse(claim).unwrap(), vec![value.into()])])
}

const MAX_LEASE: Duration = Duration::from_secs(3600);
const SKEW: Duration = Duration::from_secs(30);
const WALL: i64 = 1_800_000_000;

/// A virtual clock.
#[derive(Clone, Copy)]
struct Time(Clock);

impl Time {
    #[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
    fn start() -> Self {
        Self(Clock { now: Instant::now(), wall: WALL })
    }

    fn after(self, seconds: u64) -> Clock {
        let Clock { now, wall } = self.0;
        Clock { now: now + Duration::from_secs(seconds), wall: wall + seconds as i64 }
    }
}

fn empty(rules: Vec<Rule>) -> Directory {
    Directory::new(Rules::new(rules), MAX_LEASE, SKEW)
}

fn admit(directory: &mut Directory, key: PublicKey) -> Result<Arc<Admission>, Refusal> {
    directory.admit(key, Time::start().0)
}

fn directory() -> Directory {
    let mut directory = empty(vec![
        rule(is("iss", ISSUER_KEYS), "t-{sub}"),
        rule(is("uid", 1001), "local"),
        rule(is("iss", "https://id"), "of-{sub}"),
        rule(is("role", "ops"), "ops"),
    ]);
    assert!(directory.set_keys([(key(1), machine("a")), (key(2), machine("b"))]).is_empty());
    directory
}

#[test]
fn a_known_key_is_let_in_and_another_is_not() {
    let mut directory = directory();
    let admission = admit(&mut directory, key(1)).unwrap();
    assert_eq!(admission.subject(), "a");
    assert!(admission.grant.may_read("t-a") && !admission.grant.may_read("t-b"));
    assert_eq!(admit(&mut directory, key(3)).unwrap_err(), Refusal::UnknownKey);
    assert!(Arc::ptr_eq(&admission, &admit(&mut directory, key(1)).unwrap()));
}

#[test]
fn what_is_known_of_a_key_changes() {
    let mut directory = directory();
    let [one, two] = [1, 2].map(|number| admit(&mut directory, key(number)).unwrap());
    let again = [(key(1), machine("a")), (key(2), machine("c")), (key(3), machine("d"))];
    let ended = directory.set_keys(again);
    assert_eq!(ended.len(), 1);
    assert!(one.holds() && !two.holds());
    assert!(admit(&mut directory, key(2)).unwrap().grant.may_read("t-c"));
    assert_eq!(admit(&mut directory, key(3)).unwrap().subject(), "d");
    assert_eq!(directory.set_keys([]).len(), 1, "whoever has no connection is not told of");
    assert!(!one.holds());
    assert_eq!(admit(&mut directory, key(1)).unwrap_err(), Refusal::UnknownKey);
}

#[test]
fn a_key_that_any_rule_lets_in_and_becomes_known() {
    let rules = vec![rule(Who::AnyKey, "news"), rule(is("sub", "a"), "orders")];
    let mut directory = empty(rules);
    let stranger = admit(&mut directory, key(1)).unwrap();
    assert!(stranger.grant.may_read("news") && !stranger.grant.may_read("orders"));
    assert_eq!(stranger.subject(), "");
    directory.set_keys([(key(1), machine("a"))]);
    assert!(!stranger.holds());
    let known = admit(&mut directory, key(1)).unwrap();
    assert!(known.grant.may_read("news") && known.grant.may_read("orders"));
}

#[test]
fn a_process_is_who_the_kernel_says() {
    let directory = directory();
    let admission = directory.admit_process(1001, 7);
    assert_eq!(admission.claims.as_deref().map(Claims::issuer), Some(ISSUER_PEERCRED));
    assert!(admission.grant.may_read("local"));
    assert!(!directory.admit_process(1002, 7).grant.may_read("local"));
}

#[test]
fn strangers_leave_nothing_behind() {
    let mut directory = empty(vec![rule(Who::AnyKey, "news")]);
    let stays = admit(&mut directory, key(1)).unwrap();
    for number in 0..3 * MIN_KEPT {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        admit(&mut directory, PublicKey::from_bytes(bytes).unwrap()).unwrap();
    }
    assert!(directory.admitted.len() <= MIN_KEPT);
    assert!(Arc::ptr_eq(&stays, &admit(&mut directory, key(1)).unwrap()));
}

/// A token of this id that ends so many seconds after the start.
fn token(id: u8, subject: &str, expires: i64, role: &str) -> Verified {
    let others = [("role".to_owned(), json!(role)), ("exp".to_owned(), json!(WALL + expires))];
    let claims = Claims::new("https://id", subject, others);
    let (expires, id) = (WALL + expires, TokenId::of_test(id));
    let signed_by = Some("k-1".into());
    Verified { claims, expires, issued: None, signed_by, id, is_to_confirm: false }
}

#[test]
fn a_lease_ends_with_its_token_or_by_itself() {
    for (expires, end) in [(300, 330), (-10, 20), (100_000, 3600), (i64::MAX - WALL, 3600)] {
        let (mut directory, time) = (directory(), Time::start());
        let leased = directory.lease(key(9), &token(1, "alice", expires, ""), time.0).unwrap();
        assert!(leased.change == LeaseChange::Begun && leased.ended.is_none());
        let admission = leased.admission;
        assert_eq!(admission.until(), Some(WALL + end));
        assert!(admission.grant.may_read("of-alice"));
        let end = end as u64;
        assert!(directory.end_leases(time.after(end - 1)).is_empty());
        let again = directory.admit(key(9), time.after(end - 1)).unwrap();
        assert!(admission.holds() && Arc::ptr_eq(&admission, &again));
        // It lets in no peer from its end on, whether that was looked at or not.
        let late = directory.admit(key(9), time.after(end));
        assert_eq!(late.unwrap_err(), Refusal::UnknownKey);
        assert_eq!(directory.end_leases(time.after(end)).len(), 1);
        assert!(!admission.holds());
        assert_eq!(directory.leases(), 0);
    }
}

#[test]
fn a_lease_ends_by_whichever_clock_is_first() {
    let time = Time::start();
    let later = Duration::from_secs(331);
    for clock in
        [Clock { now: time.0.now + later, wall: WALL }, Clock { now: time.0.now, wall: WALL + 331 }]
    {
        let mut directory = directory();
        directory.lease(key(9), &token(1, "alice", 300, ""), time.0).unwrap();
        assert_eq!(directory.admit(key(9), clock).unwrap_err(), Refusal::UnknownKey, "{clock:?}");
        assert_eq!(directory.end_leases(clock).len(), 1, "{clock:?}");
    }
}

#[test]
fn a_later_token_renews() {
    let (mut directory, time) = (directory(), Time::start());
    let first = directory.lease(key(9), &token(1, "alice", 300, ""), time.0).unwrap().admission;
    // The same rights: who is connected stays so.
    let renewed = directory.lease(key(9), &token(2, "alice", 600, ""), time.after(100)).unwrap();
    assert!(renewed.change == LeaseChange::Renewed && renewed.ended.is_none());
    assert!(Arc::ptr_eq(&first, &renewed.admission));
    assert_eq!(first.until(), Some(WALL + 630));
    // Other rights, up and down.
    let up = directory.lease(key(9), &token(3, "alice", 700, "ops"), time.after(200)).unwrap();
    assert!(Arc::ptr_eq(&first, up.ended.as_ref().unwrap()) && !first.holds());
    assert!(up.admission.grant.may_read("ops") && up.admission.holds());
    let down = directory.lease(key(9), &token(4, "alice", 800, ""), time.after(300)).unwrap();
    assert!(!up.admission.holds() && !down.admission.grant.may_read("ops"));
    let now = directory.admit(key(9), time.after(829)).unwrap();
    assert!(Arc::ptr_eq(&now, &down.admission));
    assert_eq!(directory.leases(), 1);
    // One that was verified while a later one was taken does not set the end back.
    let earlier = directory.lease(key(9), &token(5, "alice", 500, "ops"), time.after(300)).unwrap();
    assert!(Arc::ptr_eq(&earlier.admission, &down.admission));
    assert_eq!(earlier.change, LeaseChange::Unchanged);
    assert_eq!(down.admission.until(), Some(WALL + 830));
}

#[test]
fn leases_that_are_not_given() {
    let lease_error = |outcome: Result<Leased, Refusal>| match outcome.unwrap_err() {
        Refusal::Lease(error) => error,
        other => panic!("{other:?}"),
    };
    let (mut directory, time) = (directory(), Time::start());
    let first = token(1, "alice", 300, "");
    directory.lease(key(9), &first, time.0).unwrap();
    // One token, one key; also once its lease is over.
    assert_eq!(lease_error(directory.lease(key(10), &first, time.0)), LeaseError::TokenUsed);
    assert_eq!(directory.end_leases(time.after(330)).len(), 1);
    let late = directory.lease(key(10), &first, time.after(330));
    assert_eq!(lease_error(late), LeaseError::TokenUsed);
    directory.lease(key(9), &first, time.after(10)).unwrap();
    // A key that lives has one subject.
    let bob = token(2, "bob", 600, "");
    let taken = directory.lease(key(9), &bob, time.after(10));
    assert_eq!(lease_error(taken), LeaseError::KeyTaken);
    directory.lease(key(9), &bob, time.after(331)).unwrap();
    // A token's number that its issuer gives once more, to somebody else.
    let twice = directory.lease(key(9), &token(1, "dave", 2_000, ""), time.after(932));
    assert_eq!(lease_error(twice), LeaseError::TokenUsed);
    // A subject has 16 keys.
    for number in 0..16 {
        let token = token(100 + number, "carol", 600, "");
        directory.lease(key(100 + number), &token, time.0).unwrap();
    }
    let more = token(50, "carol", 700, "");
    assert_eq!(lease_error(directory.lease(key(50), &more, time.0)), LeaseError::TooManyKeys);
    directory.lease(key(100), &more, time.0).unwrap();
    for error in [LeaseError::TokenUsed, LeaseError::KeyTaken, LeaseError::TooManyKeys] {
        assert!(Refusal::Lease(error).may_pass(), "{error}");
    }
}

#[test]
fn a_key_that_is_enrolled() {
    let (mut directory, time) = (directory(), Time::start());
    let mut enrol = |number, token: &Verified, after| {
        let outcome = directory.enrol(key(number), token, time.after(after));
        outcome.map(|leased| leased.change).map_err(Refusal::code)
    };
    let first = token(1, "alice", 300, "");
    assert_eq!(enrol(9, &first, 0), Ok(LeaseChange::Begun));
    // Each is this with one thing changed.
    assert_eq!(enrol(9, &first, 0), Ok(LeaseChange::Unchanged));
    assert_eq!(enrol(10, &first, 0), Err("token_used"));
    assert_eq!(enrol(1, &first, 0), Err("key_taken"), "a key with a certificate");
    assert_eq!(enrol(9, &token(2, "bob", 100, ""), 0), Err("key_taken"));
    assert_eq!(enrol(9, &token(3, "alice", 100, ""), 0), Ok(LeaseChange::Unchanged));
    assert_eq!(enrol(9, &token(4, "alice", 400, ""), 0), Ok(LeaseChange::Renewed));
    assert_eq!(enrol(9, &token(2, "bob", 900, ""), 430), Ok(LeaseChange::Begun));
    // A lease that is shorter than its token: half of it has to be over.
    let long = token(5, "carol", 100_000, "");
    for (after, change) in [
        (0, LeaseChange::Begun),
        (1799, LeaseChange::Unchanged),
        (1800, LeaseChange::Renewed),
        (1801, LeaseChange::Unchanged),
        (5399, LeaseChange::Renewed),
        (9000, LeaseChange::Begun),
    ] {
        assert_eq!(enrol(11, &long, after), Ok(change), "after {after} s");
    }
}

#[test]
fn a_token_that_would_change_nothing_is_not_verified() {
    let (mut directory, time) = (directory(), Time::start());
    let payload = |expires: i64| {
        use base64::Engine;
        let encode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode("{}"), encode(&format!("{{\"exp\":{}}}", WALL + expires)))
    };
    let wants = |directory: &Directory, number, token: &str, after| {
        directory.wants_token(&key(number), claimed_end(token.as_bytes()), time.after(after))
    };
    assert!(wants(&directory, 9, &payload(300), 0));
    assert!(wants(&directory, 9, "nonsense", 0));
    assert!(!wants(&directory, 1, &payload(300), 0), "a key with a certificate");
    directory.lease(key(9), &token(1, "alice", 300, ""), time.0).unwrap();
    assert!(!wants(&directory, 9, &payload(300), 1));
    assert!(wants(&directory, 9, &payload(301), 1));
    assert!(wants(&directory, 9, &payload(300), 330), "its lease is over");
}

#[test]
fn a_certificate_counts_more_than_a_lease() {
    let (mut directory, time) = (directory(), Time::start());
    let leased = directory.lease(key(9), &token(1, "alice", 300, ""), time.0).unwrap().admission;
    let ended = directory.set_keys([(key(9), machine("plc"))]);
    assert!(ended.iter().any(|ended| Arc::ptr_eq(ended, &leased)) && !leased.holds());
    assert_eq!(admit(&mut directory, key(9)).unwrap().subject(), "plc");
}

#[test]
fn tokens_are_forgotten_after_their_end() {
    let (mut directory, time) = (directory(), Time::start());
    directory.lease(key(9), &token(1, "alice", 300, ""), time.0).unwrap();
    directory.end_leases(time.after(300 + 30 + 3599));
    assert_eq!(directory.leases.remembered(), (1, 1));
    directory.end_leases(time.after(300 + 30 + 3600));
    assert_eq!(directory.leases.remembered(), (0, 0));
}

/// Rows 81 to 83: each is an accepted lease with one thing revoked.
#[test]
fn what_is_revoked_comes_not_back() {
    let id = || Some("https://id".to_owned());
    let subject = |issuer| Revoked::Subject { issuer, subject: "alice".to_owned() };
    let cut = |seconds| {
        let (issuer, time) = ("https://id".to_owned(), WALL + seconds);
        Revoked::IssuedBefore { issuer, time }
    };
    let by_id = |id: &str| Revoked::Token { issuer: None, id: id.to_owned() };
    let signed_by =
        |id: &str| Revoked::SignedBy { issuer: "https://id".to_owned(), id: id.to_owned() };
    // What is revoked; then what a fresh token lets in: to the same key, and to a fresh one; and
    // one of bob's to his key.
    for (what, same_key, fresh_key, bob) in [
        (Revoked::Key(key(9)), false, true, true),
        (subject(None), false, false, true),
        (subject(id()), false, false, true),
        (by_id("t-1"), true, true, true),
        (cut(50), true, true, true),
        (cut(200), false, false, false),
        (signed_by("k-1"), true, true, false),
        (subject(Some("https://other".to_owned())), true, true, true),
    ] {
        let (mut directory, time) = (directory(), Time::start());
        let fresh = |number: u8, subject: &str, issued| {
            let mut fresh = token(number, subject, 600, "");
            let jti = ("jti".to_owned(), json!(format!("t-{number}")));
            let exp = ("exp".to_owned(), json!(WALL + 600));
            fresh.claims = Claims::new("https://id", subject, [jti, exp]);
            fresh.issued = Some(WALL + issued);
            // Bob's is signed by the key that has signed the first one.
            let signer = if number == 4 { 1 } else { number };
            fresh.signed_by = Some(format!("k-{signer}").into());
            fresh
        };
        let first = fresh(1, "alice", 0);
        let alice = directory.lease(key(9), &first, time.0).unwrap().admission;
        let plc = directory.admit(key(1), time.0).unwrap();
        let revocation = directory.revoke(&what, WALL + 60, time.after(1)).unwrap();
        let is_meant = what != subject(Some("https://other".to_owned()));
        assert_eq!(alice.holds(), !is_meant, "{what}");
        assert_eq!(revocation.ended.len(), usize::from(is_meant), "{what}");
        assert!(plc.holds(), "{what}");
        let end = if is_meant { WALL + 630 } else { WALL + 60 };
        assert_eq!(revocation.until, end, "{what}");
        let mut enters = |number: u8, token: &Verified, after| {
            let outcome = directory.lease(key(number), token, time.after(after));
            let code = outcome.map(|_| ()).map_err(Refusal::code);
            assert!(matches!(code, Ok(()) | Err("revoked")), "{what}: {code:?}");
            code.is_ok()
        };
        assert_eq!(enters(9, &first, 2), !is_meant, "{what}: the token itself");
        assert_eq!(enters(9, &fresh(2, "alice", 100), 100), same_key, "{what}");
        assert_eq!(enters(10, &fresh(3, "alice", 100), 100), fresh_key, "{what}");
        assert_eq!(enters(11, &fresh(4, "bob", 100), 100), bob, "{what}");
        // Until the last token has ended.
        assert!(directory.end_leases(time.after(629)).iter().all(|ended| !ended.holds()));
        assert_eq!(directory.revocations(), usize::from(is_meant), "{what}");
        directory.end_leases(time.after(630));
        assert_eq!(directory.revocations(), 0, "{what}");
    }
}

#[test]
fn a_revoked_key_is_kept_out_whatever_speaks_for_it() {
    let (mut directory, time) = (directory(), Time::start());
    let machine = directory.admit(key(1), time.0).unwrap();
    let ended = directory.revoke(&Revoked::Key(key(1)), WALL + 60, time.0).unwrap().ended;
    assert!(ended.len() == 1 && !machine.holds());
    let refusal = directory.admit(key(1), time.after(1)).unwrap_err();
    assert!(refusal == Refusal::Revoked && !refusal.may_pass());
    assert!(!directory.wants_token(&key(1), None, time.after(1)));
    assert!(directory.admit(key(2), time.after(1)).is_ok());
    directory.end_leases(time.after(60));
    assert!(directory.admit(key(1), time.after(60)).is_ok());
    // A key that any rule lets in.
    let mut open = empty(vec![rule(Who::AnyKey, "news")]);
    let stranger = open.admit(key(7), time.0).unwrap();
    open.revoke(&Revoked::Key(key(7)), WALL + 60, time.0).unwrap();
    assert!(!stranger.holds() && open.admit(key(7), time.0).is_err());
}

#[test]
fn leases_are_shown() {
    let (mut directory, time) = (directory(), Time::start());
    let alice = directory.lease(key(9), &token(1, "alice", 300, ""), time.0).unwrap();
    directory.lease(key(10), &token(2, "bob", 600, ""), time.0).unwrap();
    let mut views = directory.views(time.after(1));
    views.sort_by_key(|view| view.expires);
    let shown: Vec<_> = views
        .iter()
        .map(|view| (view.claims.subject(), view.expires - WALL, view.connections))
        .collect();
    assert_eq!(shown, [("alice", 330, 1), ("bob", 630, 0)]);
    drop(alice);
    assert_eq!(directory.views(time.after(330)).len(), 1);
}

#[test]
fn there_is_no_lease_before_kafka_has_answered() {
    let kafka = |who| Rule { who, read: Topics::Kafka, write: Topics::default() };
    let mut directory = empty(vec![kafka(is("iss", "https://id")), kafka(is("iss", ISSUER_KEYS))]);
    let time = Time::start();
    let answer = |topics: &[&str]| KafkaTopics {
        read: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        ..KafkaTopics::default()
    };
    let token = |id, expires| token(id, "alice", expires, "");
    let refusal = directory.lease(key(1), &token(1, 300), time.0).unwrap_err();
    assert_eq!((refusal, refusal.may_pass()), (Refusal::AsksKafka, true));
    assert_eq!(directory.leases(), 0);
    assert_eq!(admit(&mut directory, key(1)).unwrap_err(), Refusal::UnknownKey);
    let (a, ab) = (answer(&["a"]), answer(&["a", "b"]));
    let first = directory.lease_with(key(1), &token(1, 300), Some(&a), time.0).unwrap().admission;
    assert!(first.grant.may_read("a") && !first.grant.may_read("b"));
    // The same token gives it to no other key, whatever Kafka says.
    let stolen = directory.lease_with(key(2), &token(1, 300), Some(&a), time.0);
    assert_eq!(stolen.unwrap_err(), Refusal::Lease(LeaseError::TokenUsed));
    let stolen = directory.lease(key(2), &token(1, 300), time.0);
    assert_eq!(stolen.unwrap_err(), Refusal::Lease(LeaseError::TokenUsed), "Kafka is not asked");
    // Another answer ends what it had; the same one and one about no lease change nothing.
    assert!(directory.set_answer(&key(1), &a, time.0).is_none() && first.holds());
    assert!(directory.set_answer(&key(2), &ab, time.0).is_none());
    let ended = directory.set_answer(&key(1), &ab, time.after(1)).unwrap();
    assert!(Arc::ptr_eq(&ended, &first) && !first.holds());
    let second = directory.leased(&key(1), time.after(1)).unwrap();
    assert!(second.holds() && second.grant.may_read("b"));
    assert_eq!(second.until(), first.until());
    // A renewal waits for an answer, and the lease goes on meanwhile.
    let renewal = directory.lease(key(1), &token(2, 600), time.after(2));
    assert_eq!(renewal.unwrap_err(), Refusal::AsksKafka);
    assert!(second.holds());
    let renewed = directory.lease_with(key(1), &token(2, 600), Some(&ab), time.after(3)).unwrap();
    assert!(renewed.ended.is_none() && Arc::ptr_eq(&renewed.admission, &second));
    assert_eq!(second.until(), Some(WALL + 630));
    // Without an answer any more it ends.
    assert!(Arc::ptr_eq(&directory.end_lease(&key(1)).unwrap(), &second) && !second.holds());
    assert!(directory.end_lease(&key(1)).is_none());
    assert!(directory.set_answer(&key(1), &a, time.after(4)).is_none());
    // A key that is known by its certificate shows no token: it has no right of that kind.
    directory.set_keys([(key(3), machine("m"))]);
    let known = admit(&mut directory, key(3)).unwrap();
    assert!(known.grant.lacks_kafka() && !known.grant.may_read("a"));
}

#[test]
fn a_clock_that_is_moved_lets_nobody_in_for_longer() {
    // The time that passes by the clock that is never set, and by the wall clock; then whether the
    // lease holds, whether its key could have another one by the same token (if that were not
    // verified before), and whether another key could.
    for (passed, wall, holds, again, other) in [
        (0, 0, true, true, false),
        (100, 100, true, true, false),
        // Forward: what has ended by it has ended.
        (100, 329, true, true, false),
        (100, 330, false, true, false),
        (100, 1_000_000, false, true, false),
        // Back: it ends when it would have.
        (100, -1_000_000, true, true, false),
        (329, 100, true, true, false),
        (330, 100, false, true, false),
        (330, -1_000_000, false, true, false),
        // After that it was forward, and is right again.
        (100, 100, true, true, false),
    ] {
        let what = format!("{passed} {wall}");
        let (mut directory, time) = (directory(), Time::start());
        let first = token(1, "alice", 300, "");
        let lease = directory.lease(key(9), &first, time.0).unwrap().admission;
        let now = time.0.now + Duration::from_secs(passed);
        let clock = Clock { now, wall: WALL + wall };
        directory.end_leases(clock);
        assert_eq!(lease.holds(), holds, "{what}");
        assert_eq!(directory.lease(key(9), &first, clock).is_ok(), again, "{what}");
        assert_eq!(directory.lease(key(10), &first, clock).is_ok(), other, "{what}");
    }
}

#[test]
fn a_used_token_is_remembered_while_a_clock_is_moved() {
    let (mut directory, time) = (directory(), Time::start());
    let first = token(1, "alice", 300, "");
    directory.lease(key(9), &first, time.0).unwrap();
    // Set forward by years, and back.
    directory.end_leases(Clock { wall: WALL + 100_000_000, ..time.0 });
    assert_eq!(directory.leases.remembered(), (1, 1));
    let thief = directory.lease(key(10), &first, time.after(10));
    assert_eq!(thief.unwrap_err(), Refusal::Lease(LeaseError::TokenUsed));
    // A token without an end is remembered for ever.
    directory.lease(key(11), &token(2, "bob", i64::MAX - WALL, ""), time.0).unwrap();
    directory.end_leases(time.after(1_000_000));
    assert_eq!(directory.leases.remembered(), (1, 1));
}

#[test]
fn of_a_token_only_what_decides_is_kept() {
    let mut directory = empty(vec![
        rule(is("/realm_access/roles", "ops"), "ops"),
        rule(is("iss", "https://id"), "/^t-{tenant}$/"),
    ]);
    let payload = json!({
        "realm_access": { "roles": ["ops", "dev"], "verify": "x".repeat(1000) }, "tenant": "north",
        "jti": "7", "email": "alice@example.com", "resource_access": { "a": { "roles": ["x"] } },
    });
    let serde_json::Value::Object(payload) = payload else { panic!() };
    let claims = Claims::new("https://id", "alice", payload);
    let verified = Verified { claims, ..token(1, "alice", 300, "") };
    let leased = directory.lease(key(9), &verified, Time::start().0).unwrap().admission;
    let kept =
        json!({ "realm_access": { "roles": ["ops", "dev"] }, "tenant": "north", "jti": "7" });
    let serde_json::Value::Object(kept) = kept else { panic!() };
    assert_eq!(leased.claims.as_deref(), Some(&Claims::new("https://id", "alice", kept)));
    assert!(leased.grant.may_read("ops") && leased.grant.may_read("t-north"));
    assert_eq!(leased.grant, directory.rules.grant(Some(&verified.claims)));
}

/// A token that its issuer has to say is active.
fn to_confirm(id: u8, expires: i64) -> Verified {
    Verified { is_to_confirm: true, ..token(id, "alice", expires, "") }
}

#[test]
fn a_token_that_is_to_be_confirmed_gives_no_lease_before() {
    let (mut directory, time) = (directory(), Time::start());
    let first = to_confirm(1, 300);
    let key = key(8);
    let lease = |directory: &mut Directory, verified| directory.lease(key, verified, time.0);
    assert_eq!(lease(&mut directory, &first).unwrap_err(), Refusal::AsksIssuer);
    assert_eq!(directory.enrol(key, &first, time.0).unwrap_err(), Refusal::AsksIssuer);
    assert_eq!(directory.leases(), 0);
    // A stolen token asks nobody anything.
    let begun = directory.lease_with(key, &first, None, time.0).unwrap();
    assert_eq!(begun.change, LeaseChange::Begun);
    let thief = directory.lease(self::key(9), &first, time.0).unwrap_err();
    assert_eq!(thief, Refusal::Lease(LeaseError::TokenUsed));
    // A later token waits likewise, and the lease goes on meanwhile.
    let later = to_confirm(2, 600);
    assert_eq!(lease(&mut directory, &later).unwrap_err(), Refusal::AsksIssuer);
    assert!(directory.leased(&key, time.0).is_some() && begun.admission.holds());
    let renewed = directory.lease_with(key, &later, None, time.0).unwrap();
    assert_eq!((renewed.change, renewed.ended.is_none()), (LeaseChange::Renewed, true));
    assert_eq!(directory.enrol(key, &later, time.0).unwrap().change, LeaseChange::Unchanged);
}

#[test]
fn an_inactive_token_lets_in_nobody_any_more() {
    let (mut directory, time) = (directory(), Time::start());
    let (first, later) = (to_confirm(1, 300), to_confirm(2, 600));
    let begun = directory.lease_with(key(8), &first, None, time.0).unwrap().admission;
    directory.lease_with(key(8), &later, None, time.0).unwrap();
    // The lease is by the later token: that the first one is not active ends nothing.
    assert!(directory.end_inactive(&key(8), &first.id).is_none() && begun.holds());
    let ended = directory.end_inactive(&key(8), &later.id).unwrap();
    assert!(Arc::ptr_eq(&ended, &begun) && !begun.holds() && directory.leases() == 0);
    for token in [&first, &later] {
        for number in [8, 9] {
            let refused = directory.lease(key(number), token, time.0).unwrap_err();
            assert!(refused == Refusal::Inactive && !refused.may_pass());
            let refused = directory.lease_with(key(number), token, None, time.0).unwrap_err();
            assert_eq!((refused, refused.code()), (Refusal::Inactive, "revoked"));
            let refused = directory.enrol(key(number), token, time.0).unwrap_err();
            assert_eq!(refused, Refusal::Inactive);
        }
    }
    // One that has waited, and given no lease.
    let waited = to_confirm(3, 900);
    directory.refuse_inactive(key(8), &waited, time.0);
    assert_eq!(directory.lease(key(8), &waited, time.0).unwrap_err(), Refusal::Inactive);
    // One that has waited again, after its lease was over.
    let again = to_confirm(5, 900);
    directory.lease_with(key(8), &again, None, time.0).unwrap();
    directory.end_lease(&key(8));
    directory.refuse_inactive(key(8), &again, time.0);
    assert_eq!(directory.lease(key(8), &again, time.0).unwrap_err(), Refusal::Inactive);
    // A new one of the same subject, for the same key.
    let fresh = to_confirm(4, 900);
    assert_eq!(directory.lease(key(8), &fresh, time.0).unwrap_err(), Refusal::AsksIssuer);
    assert!(directory.lease_with(key(8), &fresh, None, time.0).is_ok());
    // What is remembered of them is forgotten once they have ended for good.
    let clock = time.after(900 + 30 + 3600);
    directory.end_leases(clock);
    assert_eq!(directory.leases.remembered(), (0, 0));
}
