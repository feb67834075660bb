//! Questions to Kafka, their answers and their failures, under a virtual clock.

use serde_json::json;
use zafka_zmtp::curve::SecretKey;

use super::*;
use crate::claims::Claims;
use crate::token::TokenId;

const INTERVAL: Duration = Duration::from_secs(300);

fn key(number: u8) -> PublicKey {
    SecretKey::from_bytes([number; 32]).public_key()
}

/// A key of a series of many.
fn key_of(number: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    PublicKey::from_bytes(bytes).unwrap()
}

fn verified(id: u8, subject: &str, expires: i64) -> Verified {
    let claims = Claims::new("https://id", subject, [("exp".to_owned(), json!(expires))]);
    let id = TokenId::of_test(id);
    Verified { claims, expires, issued: None, signed_by: None, id, is_to_confirm: false }
}

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[allow(clippy::disallowed_methods, reason = "there is no other way to make an instant")]
fn start() -> (Questions<&'static str>, Instant) {
    (Questions::new(INTERVAL), Instant::now())
}

/// Wants, asks and answers: the peer has a lease.
fn lease(asks: &mut Questions<&'static str>, key: PublicKey, now: Instant) {
    assert_eq!(asks.want(key, &verified(1, "alice", 100), || "t", now), Wanted::Asked);
    let question = asks.poll_question(now).unwrap();
    assert!(matches!(asks.handle_answer(&question, now), Some(Answered::Begins(..))));
    asks.handle_begun(key, question.token, now);
}

#[test]
fn a_lease_is_asked_about_though_a_later_token_gives_none() {
    let (mut asks, now) = start();
    lease(&mut asks, key(1), now);
    let due = asks.poll_timeout().unwrap();
    asks.want(key(1), &verified(2, "alice", 200), || "later", now);
    let question = asks.poll_question(now).unwrap();
    assert!(matches!(asks.handle_answer(&question, now), Some(Answered::Begins(..))));
    // Its lease is refused: the one that lives has its token.
    assert_eq!((asks.counts(), asks.poll_timeout()), ((0, 1), Some(due)));
    assert_eq!(asks.poll_question(due).unwrap().token, "t");
}

#[test]
fn a_peer_waits_for_one_question() {
    let (mut asks, now) = start();
    assert_eq!(asks.poll_timeout(), None);
    let token = verified(1, "alice", 100);
    assert_eq!(asks.want(key(1), &token, || "first", now), Wanted::Asked);
    assert_eq!(asks.poll_timeout(), Some(now));
    let question = asks.poll_question(now).unwrap();
    assert_eq!((question.key, question.token), (key(1), "first"));
    // It comes again while the question is under way.
    assert_eq!(asks.want(key(1), &token, || unreachable!(), at(now, 1)), Wanted::Asked);
    assert_eq!((asks.poll_question(at(now, 1)), asks.poll_timeout()), (None, None));
    assert_eq!(
        asks.handle_answer(&question, at(now, 2)),
        Some(Answered::Begins(Box::new(token), "first"))
    );
    asks.handle_begun(key(1), "first", at(now, 2));
    assert_eq!(asks.counts(), (0, 1));
    let next = asks.poll_timeout().unwrap();
    assert!(next <= at(now, 302) && next >= at(now, 302) - INTERVAL / 8);
    assert_eq!(asks.poll_question(next - Duration::from_secs(1)), None);
    // And again at each interval.
    let question = asks.poll_question(next).unwrap();
    assert_eq!(asks.handle_answer(&question, next), Some(Answered::Again));
    assert!(asks.poll_timeout().unwrap() > next + INTERVAL / 2);
}

#[test]
fn what_a_failure_means_before_there_is_a_lease() {
    for failure in [Failure::Refused, Failure::Unanswered] {
        let (mut asks, start) = start();
        let (token, mut now) = (verified(1, "alice", 100), start);
        asks.want(key(1), &token, || "t", now);
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            let question = asks.poll_question(now).unwrap();
            assert_eq!(asks.handle_failure(&question, failure, now), Some(Failed::Waits));
            let next = at(now, pause);
            assert_eq!(asks.poll_timeout(), Some(next));
            while now < next {
                assert_eq!(asks.poll_question(now), None);
                assert_eq!(asks.want(key(1), &token, || "t", now), Wanted::Failed);
                now += Duration::from_secs(1);
            }
        }
        let question = asks.poll_question(now).unwrap();
        assert!(matches!(asks.handle_answer(&question, now), Some(Answered::Begins(..))));
    }
}

#[test]
fn one_that_does_not_come_again_is_forgotten() {
    let (mut asks, now) = start();
    asks.want(key(1), &verified(1, "alice", 100), || "t", now);
    let mut later = now;
    while let Some(question) = asks.poll_question(later) {
        assert!(later < now + GONE);
        asks.handle_failure(&question, Failure::Unanswered, later);
        later = asks.poll_timeout().unwrap();
    }
    assert_eq!((asks.counts(), asks.subjects.len()), ((0, 0), 0));
    assert_eq!(asks.waiting.next_due(1), None, "nothing counts as under way");
}

#[test]
fn what_a_failure_means_while_there_is_a_lease() {
    let (mut asks, now) = start();
    lease(&mut asks, key(1), now);
    let asked = asks.poll_timeout().unwrap();
    let question = asks.poll_question(asked).unwrap();
    assert_eq!(asks.handle_failure(&question, Failure::Refused, asked), Some(Failed::Ends));
    assert_eq!((asks.counts(), asks.poll_timeout()), ((0, 0), None));

    // Without an answer the last one holds for two intervals.
    lease(&mut asks, key(1), now);
    let mut moment = asks.poll_timeout().unwrap();
    loop {
        let question = asks.poll_question(moment).unwrap();
        let failed = asks.handle_failure(&question, Failure::Unanswered, moment).unwrap();
        let is_over = moment >= now + 2 * INTERVAL;
        assert_eq!(failed, if is_over { Failed::Ends } else { Failed::Holds });
        if is_over {
            assert_eq!(moment, now + 2 * INTERVAL);
            break;
        }
        moment = asks.poll_timeout().unwrap();
    }
    assert_eq!(asks.counts(), (0, 0));

    // An answer in between begins anew.
    lease(&mut asks, key(1), now);
    let question = asks.poll_question(at(now, 300)).unwrap();
    asks.handle_failure(&question, Failure::Unanswered, at(now, 300));
    let question = asks.poll_question(at(now, 310)).unwrap();
    assert_eq!(asks.handle_answer(&question, at(now, 310)), Some(Answered::Again));
    let question = asks.poll_question(at(now, 620)).unwrap();
    let failed = asks.handle_failure(&question, Failure::Unanswered, at(now, 620));
    assert_eq!(failed, Some(Failed::Holds));
}

#[test]
fn a_later_token_takes_the_place_of_one_that_waits() {
    let (mut asks, now) = start();
    let [first, later, earlier] =
        [(1, 100), (2, 200), (3, 150)].map(|(id, expires)| verified(id, "alice", expires));
    asks.want(key(1), &first, || "first", now);
    let question = asks.poll_question(now).unwrap();
    assert_eq!(asks.want(key(1), &later, || "later", now), Wanted::Asked);
    assert_eq!(asks.want(key(1), &earlier, || unreachable!(), now), Wanted::Asked);
    // What is said of the first is of no use any more.
    assert_eq!(asks.handle_answer(&question, now), None);
    let question = asks.poll_question(now).unwrap();
    assert_eq!(question.token, "later");
    assert_eq!(
        asks.handle_answer(&question, now),
        Some(Answered::Begins(Box::new(later), "later"))
    );
    asks.handle_begun(question.key, question.token, now);
    // A renewal waits beside the lease that lives.
    let next = verified(4, "alice", 300);
    assert_eq!(asks.want(key(1), &next, || "next", at(now, 1)), Wanted::Asked);
    assert_eq!(asks.counts(), (1, 1));
    let question = asks.poll_question(at(now, 1)).unwrap();
    assert_eq!(asks.handle_failure(&question, Failure::Refused, at(now, 1)), Some(Failed::Waits));
    assert_eq!(asks.counts(), (1, 1), "the lease goes on");
    let question = asks.poll_question(at(now, 3)).unwrap();
    assert_eq!(
        asks.handle_answer(&question, at(now, 3)),
        Some(Answered::Begins(Box::new(next), "next"))
    );
    asks.handle_begun(key(1), "next", at(now, 3));
    assert_eq!(asks.counts(), (0, 1));
    assert_eq!(asks.poll_question(at(now, 310)).unwrap().token, "next");
}

#[test]
fn a_lease_that_is_over_is_not_asked_about() {
    let (mut asks, now) = start();
    lease(&mut asks, key(1), now);
    lease(&mut asks, key(2), now);
    let under_way = [(); 2].map(|()| asks.poll_question(at(now, 300)).unwrap());
    asks.retain_leased(|key| *key == self::key(2));
    assert_eq!(asks.counts(), (0, 1));
    for question in under_way {
        let answered = asks.handle_answer(&question, at(now, 301));
        assert_eq!(answered, (question.key == key(2)).then_some(Answered::Again));
    }
    asks.retain_leased(|_| false);
    assert_eq!((asks.counts(), asks.poll_timeout()), ((0, 0), None));
}

#[test]
fn topics_that_changed_are_asked_about_at_once() {
    let (mut asks, now) = start();
    lease(&mut asks, key(1), now);
    lease(&mut asks, key(2), now);
    let due = asks.poll_timeout().unwrap();
    let old = asks.poll_question(due).unwrap();
    asks.want(key(3), &verified(3, "carol", 100), || "t", due);
    let waited = asks.poll_question(due).unwrap();
    asks.ask_again(due);
    // The answers to what was asked before say nothing.
    assert_eq!(asks.handle_answer(&old, due), None);
    assert_eq!(asks.handle_answer(&waited, due), None);
    let mut keys = Vec::new();
    while let Some(question) = asks.poll_question(due) {
        keys.push(question.key);
        assert!(asks.handle_answer(&question, due).is_some());
    }
    keys.sort();
    let mut expected = [key(1), key(2), key(3)];
    expected.sort();
    assert_eq!(keys, expected);
}

#[test]
fn everything_is_bounded() {
    let (mut asks, now) = start();
    // Of one subject.
    for number in 0..WAITING_PER_SUBJECT as u32 {
        let wanted = asks.want(key_of(number), &verified(1, "alice", 1), || "t", now);
        assert_eq!(wanted, Wanted::Asked);
    }
    let wanted = asks.want(key(99), &verified(1, "alice", 1), || "t", now);
    assert_eq!(wanted, Wanted::Full);
    // Under way: peers that wait and peers that have a lease do not stand in each other's way.
    let mut under_way: Vec<_> = std::iter::from_fn(|| asks.poll_question(now)).collect();
    assert_eq!((under_way.len(), asks.poll_timeout()), (MAX_ASKED, None));
    while let Some(question) = under_way.pop() {
        asks.handle_answer(&question, now);
        asks.handle_begun(question.key, question.token, now);
        under_way.extend(asks.poll_question(now));
    }
    assert_eq!((asks.counts(), asks.subjects.len()), ((0, WAITING_PER_SUBJECT), 0));
    let later = at(now, 300);
    asks.want(key(99), &verified(1, "bob", 1), || "t", later);
    let under_way = std::iter::from_fn(|| asks.poll_question(later)).count();
    assert_eq!(under_way, MAX_ASKED + 1);
    // Of all.
    for number in 0..2 * MAX_WAITING as u32 {
        let subject = format!("s{number}");
        asks.want(key_of(100 + number), &verified(1, &subject, 1), || "t", later);
    }
    assert_eq!(asks.counts().0, MAX_WAITING);
}

#[test]
fn nobody_asks_any_more() {
    let (mut asks, now) = start();
    lease(&mut asks, key(1), now);
    let held = INTERVAL * 2 + Duration::from_secs(30);
    assert_eq!(asks.take_unanswered(now + held - Duration::from_secs(1)), []);
    assert_eq!(asks.take_unanswered(now + held), [key(1)]);
    assert_eq!((asks.counts(), asks.take_unanswered(now + held)), ((0, 0), vec![]), "once");

    // A question that hangs, and one after the other that takes its time.
    lease(&mut asks, key(1), now);
    let question = asks.poll_question(at(now, 580)).unwrap();
    lease(&mut asks, key(2), at(now, 600));
    assert_eq!(asks.take_unanswered(at(now, 629)), []);
    assert_eq!(asks.take_unanswered(at(now, 630)), [key(1)]);
    assert_eq!(asks.handle_answer(&question, at(now, 631)), None, "too late");
    assert_eq!(asks.counts(), (0, 1));
    let question = asks.poll_question(at(now, 1260)).unwrap();
    assert_eq!(asks.take_unanswered(at(now, 1280)), [], "it was asked late, and has its time");
    assert_eq!(asks.handle_answer(&question, at(now, 1281)), Some(Answered::Again));
    assert_eq!(asks.take_unanswered(at(now, 1300)), []);
}

#[test]
fn who_begins_to_ask_anew_asks_what_was_under_way() {
    let (mut asks, now) = start();
    lease(&mut asks, key(1), now);
    for number in 2..10 {
        let wanted = asks.want(key(number), &verified(number, "bob", 100), || "t", now);
        assert_eq!(wanted, Wanted::Asked);
    }
    let ask_all = |asks: &mut Questions<&'static str>| {
        std::iter::from_fn(|| asks.poll_question(at(now, 300))).count()
    };
    // Those who wait have to come again now and then.
    for number in 2..10 {
        asks.want(key(number), &verified(number, "bob", 100), || "t", at(now, 300));
    }
    assert_eq!(ask_all(&mut asks), 9);
    assert_eq!(ask_all(&mut asks), 0, "all are under way");
    asks.forget_questions(at(now, 300));
    assert_eq!(ask_all(&mut asks), 9);
}

#[test]
fn without_an_answer_a_lease_goes_on_if_that_is_wanted() {
    let (_, start) = start();
    let mut asks = Questions::lenient(INTERVAL);
    lease(&mut asks, key(1), start);
    let mut now = start;
    for _ in 0..40 {
        now = now.max(asks.poll_timeout().unwrap());
        let question = asks.poll_question(now).unwrap();
        let failed = asks.handle_failure(&question, Failure::Unanswered, now);
        assert_eq!(failed, Some(Failed::Holds), "{:?}", now - start);
        assert!(asks.poll_timeout().unwrap() <= now + BACKOFF.1);
    }
    assert!(now > start + INTERVAL * 4);
    // It is forgotten with the lease.
    asks.retain_leased(|_| false);
    assert_eq!((asks.counts(), asks.poll_timeout()), ((0, 0), None));
}

#[test]
fn a_token_that_is_not_good_is_forgotten() {
    let (mut asks, now) = start();
    let token = verified(1, "alice", 100);
    asks.want(key(1), &token, || "t", now);
    let question = asks.poll_question(now).unwrap();
    assert_eq!(asks.handle_no(&question, now), Some(Box::new(token)));
    assert_eq!((asks.counts(), asks.poll_timeout()), ((0, 0), None));
    lease(&mut asks, key(1), now);
    let question = asks.poll_question(at(now, 300)).unwrap();
    assert_eq!(asks.counts(), (0, 1));
    assert_eq!(asks.handle_no(&question, at(now, 300)), None);
    assert_eq!((asks.counts(), asks.poll_timeout()), ((0, 0), None));
    // The answer is on a token whose place another one has taken.
    asks.want(key(1), &verified(1, "alice", 100), || "t", now);
    let question = asks.poll_question(now).unwrap();
    asks.want(key(1), &verified(2, "alice", 200), || "later", now);
    assert_eq!(asks.handle_no(&question, now), None);
    assert_eq!(asks.poll_question(now).unwrap().token, "later");
}

#[test]
fn peers_that_wait_without_an_answer_are_counted() {
    let (mut asks, start) = start();
    asks.want(key(1), &verified(1, "alice", 100), || "t", start);
    let mut now = start;
    for failures in 1..4 {
        let question = asks.poll_question(now).unwrap();
        asks.handle_failure(&question, Failure::Unanswered, now);
        assert_eq!((asks.unanswered(failures), asks.unanswered(failures + 1)), (1, 0));
        now = asks.poll_timeout().unwrap();
    }
    // It has gone away: nobody is kept out any more.
    assert_eq!(asks.poll_question(start + GONE), None);
    assert_eq!(asks.unanswered(1), 0);
}
