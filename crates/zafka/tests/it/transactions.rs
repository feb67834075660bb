//! Transactions of the Java producer, as readers of committed and of all records see them.

use zafka_testkit::wait::wait_for;
use zafka_testkit::{Admin, Checker, KafkaNode, LibzmqSub, Record, Sequence, Session, unique};

use crate::common::{Fetcher, OneRoute, is_at, partition};
use crate::{DEADLINE, decoded};

const COMMITTED: &str = r#"isolation = "read_committed""#;
const ALL: &str = r#"isolation = "read_uncommitted""#;

/// A topic of one partition, written plainly and in transactions.
struct Ledger {
    fetcher: Fetcher,
    topic: String,
    admin: &'static Admin,
    next: u64,
    /// The view of readers of committed records.
    committed: Checker,
    /// The view of readers of all records.
    all: Checker,
}

impl Ledger {
    fn new(fetcher: Fetcher) -> Self {
        let admin = KafkaNode::shared().admin();
        let topic = unique("ledger");
        admin.create_topic(&topic, 1, &[]);
        Self { fetcher, topic, admin, next: 0, committed: Checker::new(), all: Checker::new() }
    }

    fn write(&mut self, count: usize, transaction: Option<&str>, will_be_seen: bool) {
        let transaction = transaction.map(str::to_owned);
        let sequence =
            Sequence { first: self.next, transaction, ..Sequence::new(&self.topic, count) };
        self.next += count as u64;
        let produced = self.admin.produce_sequence(&sequence);
        self.all.expect_sequence(&sequence, &produced);
        if will_be_seen {
            self.committed.expect_sequence(&sequence, &produced);
        }
    }

    fn commit(&mut self, count: usize, transaction: &str) {
        self.admin.begin(transaction);
        self.write(count, Some(transaction), true);
        self.admin.commit(transaction);
    }

    fn abort(&mut self, count: usize, transaction: &str) {
        self.admin.begin(transaction);
        self.write(count, Some(transaction), false);
        self.admin.abort(transaction);
    }

    /// The end, once the markers of all transactions are written.
    fn end(&self) -> i64 {
        wait_for("the transactions to end", DEADLINE, || {
            let info = self.admin.describe(&self.topic);
            let partition = info.partition(0);
            (partition.stable == partition.latest).then_some(partition.latest)
        })
    }

    fn read(&self, isolation: &str, more: &str) -> (OneRoute, LibzmqSub) {
        let from = format!(
            r#"topics = ["{}"], start = "earliest", {isolation}{more}, {}"#,
            self.topic, self.fetcher
        );
        let route = OneRoute::lossless(KafkaNode::shared().bootstrap(), &from);
        let subscriber = route.subscribe(&[&self.topic]);
        (route, subscriber)
    }

    /// Asserts that the route has come to the end, and its subscriber has what `checker` expects
    /// and a `prev` on all but the first.
    fn assert_all_read(&self, (route, subscriber): &mut (OneRoute, LibzmqSub), checker: &Checker) {
        let end = self.end();
        route
            .relay
            .wait_status("the end to be delivered", DEADLINE, |s| is_at(s, &self.topic, 0, end));
        let messages = decoded(&subscriber.wait_messages(checker.len(), DEADLINE));
        assert!(messages.iter().skip(1).all(|message| message.prev.is_some()), "a prev is missing");
        checker.assert(&[Session::new(messages)]);
    }
}

on_both_fetchers!(aborted_records_and_control_batches_never_come_through, "needs Java and Maven");
fn aborted_records_and_control_batches_never_come_through(fetcher: Fetcher) {
    let mut ledger = Ledger::new(fetcher);
    let [one, two] = [unique("one"), unique("two")];
    // Aborted at the start, in turns, one within another, larger than a fetch's first batches, and
    // at the end.
    ledger.abort(10, &one);
    ledger.write(10, None, true);
    ledger.commit(10, &one);
    ledger.abort(5_000, &one);
    ledger.admin.begin(&one);
    ledger.admin.begin(&two);
    for _ in 0..20 {
        ledger.write(7, Some(&one), false);
        ledger.write(7, Some(&two), true);
        ledger.write(1, None, true);
    }
    ledger.admin.abort(&one);
    ledger.write(10, None, true);
    ledger.admin.commit(&two);
    ledger.commit(5_000, &two);
    ledger.abort(100, &two);
    let group = format!(r#", group = "{}""#, ledger.topic);
    let mut committed = ledger.read(COMMITTED, &group);
    let mut all = ledger.read(ALL, "");
    ledger.assert_all_read(&mut committed, &ledger.committed);
    ledger.assert_all_read(&mut all, &ledger.all);
    // As it happens, too, and the control batch at the end is committed like a record.
    ledger.abort(100, &one);
    ledger.commit(1, &one);
    ledger.abort(1, &one);
    ledger.assert_all_read(&mut committed, &ledger.committed);
    ledger.assert_all_read(&mut all, &ledger.all);
    let (mut route, _subscriber) = committed;
    route.relay.terminate();
    assert!(route.relay.wait_exit(DEADLINE).success(), "{}", route.relay.log());
    let at = ledger.admin.committed(&ledger.topic);
    assert_eq!(at.get(&(ledger.topic.clone(), 0)), Some(&ledger.end()));
}

on_both_fetchers!(a_topic_of_aborted_records_alone_has_no_lag, "needs Java and Maven");
fn a_topic_of_aborted_records_alone_has_no_lag(fetcher: Fetcher) {
    let mut ledger = Ledger::new(fetcher);
    ledger.abort(1_000, &unique("aborted"));
    let (mut route, subscriber) = ledger.read(COMMITTED, "");
    let end = ledger.end();
    route
        .relay
        .wait_status("the end to be delivered", DEADLINE, |s| is_at(s, &ledger.topic, 0, end));
    ledger.admin.produce(&ledger.topic, &[Record::new("k", "last")]);
    let messages = decoded(&subscriber.wait_messages(1, DEADLINE));
    assert_eq!(messages[0].value.as_deref(), Some(&b"last"[..]));
    assert_eq!(messages[0].prev, None, "no record that can be seen is before it");
}

on_both_fetchers!(an_open_transaction_holds_later_records_back, "needs Java and Maven");
fn an_open_transaction_holds_later_records_back(fetcher: Fetcher) {
    let mut ledger = Ledger::new(fetcher);
    let other = unique("beside");
    ledger.admin.create_topic(&other, 1, &[]);
    let transaction = unique("open");
    ledger.write(10, None, true);
    ledger.admin.begin(&transaction);
    ledger.write(10, Some(&transaction), true);
    ledger.admin.flush(&transaction);
    ledger.write(10, None, true);

    let from = format!(
        r#"topics = ["{}", "{other}"], start = "earliest", {COMMITTED}, {fetcher}"#,
        ledger.topic
    );
    let to = r#"slow_peer = "block", min_peers = 1"#;
    let mut route = OneRoute::start(KafkaNode::shared().bootstrap(), &from, to);
    let subscriber = route.subscribe(&[&ledger.topic]);
    let beside = route.subscribe(&[&other]);
    let stable = ledger.admin.describe(&ledger.topic).partition(0).stable;
    assert_eq!(stable, 10);
    let (topic, admin) = (ledger.topic.clone(), ledger.admin);
    route.relay.wait_status("the last stable offset", DEADLINE, |s| is_at(s, &topic, 0, stable));
    // The other topic goes on; what it has after a while came after many fetches of the one that is
    // held.
    for round in 1..=20 {
        admin.produce(&other, &[Record::new("k", "v")]);
        beside.wait_messages(round, DEADLINE);
    }
    let held = subscriber.wait_messages(10, DEADLINE);
    assert_eq!(held.len(), 10, "records behind an open transaction came through");
    let status = route.relay.status().expect("it runs");
    assert_eq!(partition(&status, &topic, 0)["delivered"], stable);
    route.relay.wait_ready();

    admin.commit(&transaction);
    assert_eq!(ledger.end(), 31, "30 records and a marker");
    ledger.assert_all_read(&mut (route, subscriber), &ledger.committed);
}
