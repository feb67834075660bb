//! A window under a clock of its own.

use serde_json::json;

use super::*;

const LIMITS: WindowLimits =
    WindowLimits { messages: 3, bytes: 10_000, patience: Some(Duration::from_secs(60)) };

/// Pause before another try of a message that is put off.
const PAUSE: Duration = Duration::from_secs(1);

/// Messages are their numbers in decimal, with a full stop.
struct Bench {
    window: Window,
    now: Instant,
}

impl Bench {
    fn new(answers: Answers) -> Self {
        let now = Instant::now();
        Self { window: Window::new(answers, LIMITS), now }
    }

    fn take(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.window.next_number();
            self.window.take(format!("{number}.").into_bytes(), self.now);
        }
    }

    fn sent(&mut self) -> String {
        String::from_utf8(self.window.poll_send(1_000, self.now)).unwrap()
    }

    fn wait(&mut self, seconds: u64) -> bool {
        self.now += Duration::from_secs(seconds);
        self.window.handle_timeout(self.now)
    }

    /// The number of the message that an answer settled; 0 if it is sent again.
    fn answer(&mut self, number: Option<u64>, outcome: &str) -> Result<u64, Mismatch> {
        let map = |value: serde_json::Value| value.as_object().unwrap().clone();
        let fields = json!({"code": "c", "message": "m"});
        let failure = |retry_after| Failure { retry_after, fields: map(fields) };
        let outcome = match outcome {
            "ok" => Ok(Place(map(json!({"offset": 1})))),
            "no" => Err(failure(None)),
            "later" => Err(failure(Some(PAUSE))),
            other => panic!("{other}"),
        };
        let told = self.window.handle_answer(RouterAnswer { number, outcome }, self.now)?;
        Ok(match told {
            Verdict::Settled(settled) => settled.number,
            Verdict::Later(_) => 0,
        })
    }

    fn counts(&self) -> [u64; 4] {
        let Counts { taken, acknowledged, refused, resent } = self.window.counts();
        [taken, acknowledged, refused, resent]
    }
}

#[test]
fn nothing_is_sent_before_a_connection_and_no_more_than_fits_is_taken() {
    let mut bench = Bench::new(Answers::ById);
    bench.take(2);
    assert_eq!((bench.sent().as_str(), bench.window.wants_to_send()), ("", false));
    assert!(bench.window.has_room());
    bench.take(1);
    assert!(!bench.window.has_room());
    bench.window.handle_connected();
    assert!(bench.window.wants_to_send());
    assert_eq!(bench.sent(), "1.2.3.");
    assert!(!bench.window.wants_to_send());
    bench.answer(Some(2), "ok").unwrap();
    assert!(bench.window.has_room());
}

#[test]
fn bytes_are_bounded_and_one_larger_message_goes_alone() {
    let mut bench = Bench::new(Answers::ById);
    bench.window.take(vec![0; 20_000], bench.now);
    assert!(!bench.window.has_room());
    bench.window.handle_connected();
    assert_eq!(bench.sent().len(), 20_000);
    bench.answer(Some(1), "ok").unwrap();
    assert!(bench.window.has_room());
}

#[test]
fn chunks_end_with_a_message() {
    let mut bench = Bench::new(Answers::ById);
    bench.take(3);
    bench.window.handle_connected();
    assert_eq!(bench.window.poll_send(3, bench.now), b"1.2.");
    assert_eq!(bench.window.poll_send(3, bench.now), b"3.");
}

#[test]
fn answers_by_id_come_in_any_order() {
    let mut bench = Bench::new(Answers::ById);
    bench.take(3);
    bench.window.handle_connected();
    bench.sent();
    assert_eq!(bench.answer(Some(3), "ok"), Ok(3));
    assert_eq!(bench.answer(Some(1), "no"), Ok(1));
    assert_eq!(bench.window.unsettled().collect::<Vec<_>>(), [2]);
    assert_eq!(bench.answer(Some(2), "ok"), Ok(2));
    assert_eq!((bench.counts(), bench.window.under_way()), ([3, 2, 1, 0], 0));
}

#[test]
fn answers_in_order_settle_the_first() {
    let mut bench = Bench::new(Answers::InOrder);
    bench.take(2);
    bench.window.handle_connected();
    bench.sent();
    assert_eq!(bench.answer(None, "ok"), Ok(1));
    assert_eq!(bench.answer(None, "no"), Ok(2));
    assert_eq!(bench.answer(None, "ok"), Err(Mismatch::Unasked));
}

#[test]
fn what_was_not_answered_is_sent_again_in_order_by_the_next_connection() {
    for answers in [Answers::ById, Answers::InOrder] {
        let by_id = answers == Answers::ById;
        let mut bench = Bench::new(answers);
        bench.take(3);
        bench.window.handle_connected();
        assert_eq!(bench.sent(), "1.2.3.");
        bench.answer(by_id.then_some(1), "ok").unwrap();
        bench.window.handle_disconnected();
        bench.take(1);
        assert_eq!(bench.sent(), "");
        bench.window.handle_connected();
        assert_eq!(bench.sent(), "2.3.4.");
        assert_eq!(bench.answer(by_id.then_some(2), "ok"), Ok(2));
        // Lost once more, with one that was never sent before.
        bench.window.handle_disconnected();
        bench.window.handle_connected();
        assert_eq!(bench.sent(), "3.4.");
        assert_eq!(bench.counts(), [4, 2, 0, 4]);
    }
}

#[test]
fn what_is_refused_for_now_is_sent_again_after_a_pause() {
    let mut bench = Bench::new(Answers::InOrder);
    bench.take(2);
    bench.window.handle_connected();
    bench.sent();
    assert_eq!(bench.answer(None, "later"), Ok(0));
    assert_eq!(bench.window.poll_timeout(), Some(bench.now + PAUSE));
    assert_eq!(bench.answer(None, "ok"), Ok(2));
    assert_eq!(bench.sent(), "");
    bench.wait(1);
    assert_eq!(bench.sent(), "1.");
    assert_eq!(bench.answer(None, "ok"), Ok(1));
    assert_eq!(bench.counts(), [2, 2, 0, 1]);
}

#[test]
fn a_new_connection_does_not_shorten_the_pause() {
    let mut bench = Bench::new(Answers::ById);
    bench.take(2);
    bench.window.handle_connected();
    bench.sent();
    bench.answer(Some(1), "later").unwrap();
    bench.window.handle_disconnected();
    bench.window.handle_connected();
    assert_eq!(bench.sent(), "2.");
    bench.wait(1);
    assert_eq!(bench.sent(), "1.");
}

#[test]
fn without_answers_the_kernel_settles() {
    let mut bench = Bench::new(Answers::None);
    bench.take(3);
    bench.window.handle_connected();
    bench.window.poll_send(3, bench.now);
    bench.window.poll_send(3, bench.now);
    let mut settled = Vec::new();
    bench.window.handle_written(bench.now, &mut settled);
    let numbers: Vec<_> = settled.iter().map(|settled| settled.number).collect();
    assert_eq!(numbers, [1, 2]);
    // The second chunk is lost with its connection.
    bench.window.handle_disconnected();
    bench.window.handle_written(bench.now, &mut settled);
    assert_eq!(settled.len(), 2);
    bench.window.handle_connected();
    assert_eq!(bench.sent(), "3.");
    bench.window.handle_written(bench.now, &mut settled);
    assert_eq!((settled.len(), bench.counts()), (3, [3, 3, 0, 1]));
    assert_eq!(bench.answer(None, "ok"), Err(Mismatch::Unasked));
}

#[test]
fn patience_ends_if_nothing_is_settled() {
    let mut bench = Bench::new(Answers::ById);
    assert_eq!(bench.window.poll_timeout(), None, "nothing is under way");
    assert!(!bench.wait(1_000));
    bench.take(2);
    bench.window.handle_connected();
    bench.sent();
    assert_eq!(bench.window.poll_timeout(), Some(bench.now + Duration::from_secs(60)));
    assert!(!bench.wait(59));
    bench.answer(Some(1), "ok").unwrap();
    assert!(!bench.wait(59));
    // Neither a refusal for now nor a new connection is progress.
    bench.answer(Some(2), "later").unwrap();
    bench.window.handle_disconnected();
    bench.window.handle_connected();
    assert!(bench.wait(1));
    assert_eq!(bench.window.unsettled().collect::<Vec<_>>(), [2]);
}

#[test]
fn without_a_bound_patience_never_ends() {
    let mut bench = Bench::new(Answers::ById);
    bench.window.limits.patience = None;
    bench.take(1);
    assert!(!bench.wait(1_000_000));
    assert_eq!(bench.window.poll_timeout(), None);
}

#[test]
fn answers_that_fit_nothing() {
    let unnamed = Mismatch::Unnamed("c: m".to_owned());
    for (answers, number, outcome, mismatch) in [
        (Answers::ById, None, "ok", Mismatch::NoId),
        (Answers::ById, None, "no", unnamed),
        (Answers::ById, Some(2), "ok", Mismatch::UnknownId),
        (Answers::ById, Some(0), "ok", Mismatch::UnknownId),
        (Answers::InOrder, Some(1), "ok", Mismatch::UnknownId),
    ] {
        let mut bench = Bench::new(answers);
        bench.take(1);
        bench.window.handle_connected();
        bench.sent();
        assert_eq!(bench.answer(number, outcome), Err(mismatch));
    }
    // Answered twice.
    let mut bench = Bench::new(Answers::ById);
    bench.take(1);
    bench.window.handle_connected();
    bench.sent();
    assert_eq!(bench.answer(Some(1), "ok"), Ok(1));
    assert_eq!(bench.answer(Some(1), "ok"), Err(Mismatch::UnknownId));
}

#[test]
fn latency_counts_from_the_first_time() {
    let mut bench = Bench::new(Answers::ById);
    bench.take(1);
    bench.wait(5);
    bench.window.handle_connected();
    bench.sent();
    bench.wait(2);
    bench.window.handle_disconnected();
    bench.window.handle_connected();
    bench.sent();
    bench.wait(1);
    let answer = RouterAnswer { number: Some(1), outcome: Ok(Place(Default::default())) };
    let Verdict::Settled(settled) = bench.window.handle_answer(answer, bench.now).unwrap() else {
        panic!("it is settled")
    };
    assert_eq!(settled.latency, Duration::from_secs(3));
}
