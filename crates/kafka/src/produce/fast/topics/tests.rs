#![allow(clippy::disallowed_methods, reason = "tests begin now")]

use std::time::Duration;

use super::super::super::partition::{Answer, Fill};
use super::topic::PATIENCE;
use super::*;
use crate::metadata;
use crate::produce::partitioner::of_key;
use crate::records::{Codec, ProducerId};

struct Bench {
    topics: Topics,
    buffers: Buffers,
    now: Instant,
    next: Ticket,
}

fn told(id: u128, partitions: i32, error: Option<Code>) -> metadata::TopicMetadata {
    let leaders = (0..partitions).map(|index| (index, Leader { broker: 1, epoch: 1 }));
    metadata::TopicMetadata { id: Uuid::from_u128(id), error, leaders: leaders.collect() }
}

impl Bench {
    fn new(delivery_timeout: Option<Duration>) -> Self {
        let settings =
            Settings { batch_bytes: 10_000, linger: Duration::ZERO, delivery_timeout, codec: None };
        Self {
            topics: Topics::new(settings, 1),
            buffers: Buffers::default(),
            now: Instant::now(),
            next: 0,
        }
    }

    fn push(&mut self, topic: &str, partition: Option<i32>, key: Option<&str>) -> bool {
        let record = OutboundRecord {
            topic,
            partition,
            timestamp: 5,
            key: key.map(str::as_bytes),
            value: Some(b"v"),
            headers: &[],
        };
        let pushed = self.topics.push(self.next, &record, &mut self.buffers, self.now).unwrap();
        self.next += 1;
        pushed
    }

    fn hear(&mut self, topic: &str, told: metadata::TopicMetadata) -> Learned {
        let topics = HashMap::from([(Arc::from(topic), told)]);
        let metadata = Metadata { topics, ..Metadata::default() };
        self.topics.handle_metadata(&metadata, &mut self.buffers, self.now)
    }

    /// The tickets of each partition, as they are handed out.
    fn tickets(&mut self) -> Vec<(Option<i32>, Ticket)> {
        let mut tickets = Vec::new();
        self.topics.hand_over("end", |ticket, record| tickets.push((record.partition, ticket)));
        tickets
    }

    fn failed(&mut self) -> Vec<(Ticket, bool)> {
        let mut failed = Vec::new();
        for topic in 0..self.topics.topics.len() {
            for partition in 0..10 {
                let Some(slot) = self.topics.slot(Key { topic, partition }) else { continue };
                let told = std::iter::from_fn(|| slot.partition.poll_delivery());
                let told: Vec<_> = told.collect();
                self.topics.failed.extend(told);
            }
        }
        while let Some(deliveries) = self.topics.poll_failed() {
            failed.extend(deliveries.map(|delivery| {
                let retriable =
                    matches!(delivery.outcome, Err(WriteError::Kafka { retriable: true, .. }));
                (delivery.ticket, retriable)
            }));
        }
        failed
    }
}

#[test]
fn records_wait_for_their_topic_and_keep_their_order() {
    let mut bench = Bench::new(None);
    assert!(bench.push("a", Some(1), None), "it is to be asked for");
    assert!(bench.push("a", None, Some("kafka")));
    assert!(bench.push("a", Some(1), None));
    assert_eq!(bench.hear("a", told(7, 3, None)), Learned::default());
    assert!(!bench.push("a", Some(1), None), "it is known");
    let of_key = i32::try_from(of_key(b"kafka", 3)).unwrap();
    let mut expected = vec![(Some(1), 0), (Some(of_key), 1), (Some(1), 2), (Some(1), 3)];
    expected.sort_by_key(|(partition, _)| *partition);
    assert_eq!(bench.tickets(), expected);
}

#[test]
fn a_topic_is_gone_by_two_answers_five_seconds_apart() {
    let mut bench = Bench::new(None);
    let unknown = || told(0, 0, Some(Code::UnknownTopicOrPartition));
    bench.push("a", None, None);
    assert!(bench.hear("a", unknown()).ask_again);
    bench.now += PATIENCE - Duration::from_millis(1);
    assert!(bench.hear("a", unknown()).ask_again);
    assert_eq!(bench.failed(), []);
    bench.now += Duration::from_millis(1);
    bench.hear("a", unknown());
    assert_eq!(bench.failed(), [(0, false)]);
    bench.topics.forget_absent();
    assert_eq!(bench.topics.names(), []);
    assert_eq!(bench.topics.unknown, 0);
    // One answer that it is there, and it begins again.
    bench.push("a", None, None);
    bench.hear("a", unknown());
    bench.hear("a", told(7, 1, None));
    bench.now += PATIENCE;
    bench.hear("a", unknown());
    assert_eq!(bench.failed(), []);
    bench.now += PATIENCE;
    bench.hear("a", unknown());
    assert_eq!(bench.failed(), [(1, false)]);
}

#[test]
fn a_partition_may_come_later_or_never() {
    let mut bench = Bench::new(None);
    bench.push("a", Some(0), None);
    bench.hear("a", told(7, 1, None));
    assert!(bench.push("a", Some(2), None), "the topic is to be asked for again");
    assert!(bench.hear("a", told(7, 1, None)).ask_again);
    assert!(!bench.hear("a", told(7, 3, None)).ask_again);
    let place = |partition| PartitionIndex { topic: 0, partition: Some(partition) };
    assert_eq!(bench.topics.poll_placed(), Some(vec![(0, place(0)), (1, place(2))]));
    assert_eq!(bench.topics.poll_placed(), None);
    bench.push("a", Some(9), None);
    bench.now += PATIENCE;
    bench.hear("a", told(7, 3, None));
    assert_eq!(bench.failed(), [(2, false)]);
    assert_eq!(bench.tickets(), [(Some(0), 0), (Some(2), 1)]);
}

#[test]
fn what_may_not_be_written_fails_at_once() {
    let mut bench = Bench::new(None);
    bench.push("a", None, None);
    bench.hear("a", told(0, 0, Some(Code::TopicAuthorizationFailed)));
    assert_eq!(bench.failed(), [(0, false)]);
}

#[test]
fn what_waits_for_its_topic_is_given_up_in_time() {
    let timeout = Duration::from_secs(30);
    let mut bench = Bench::new(Some(timeout));
    bench.push("a", None, None);
    assert_eq!(bench.topics.handle_timeout(bench.now), Some(bench.now + timeout));
    bench.now += timeout;
    bench.topics.handle_timeout(bench.now);
    assert_eq!(bench.failed(), [(0, true)]);
}

#[test]
fn the_life_before_is_not_believed() {
    let mut bench = Bench::new(None);
    bench.push("a", Some(0), None);
    bench.hear("a", told(7, 1, None));
    let key = Key { topic: 0, partition: 0 };
    let (now, slot) = (bench.now, bench.topics.slot(key).unwrap());
    assert!(slot.partition.poll_id(now));
    slot.partition.handle_id(Ok(ProducerId { id: 5, epoch: 0 }), now);
    let first = slot.partition.poll_request(now, Fill::Any, &mut bench.buffers).unwrap();
    let answer =
        Answer { error: None, message: None, base_offset: 9, log_append_time: -1, log_start: 0 };
    slot.partition.handle_answer(first.number, &answer, &mut bench.buffers, now);
    assert!(!bench.hear("a", told(8, 1, None)).is_stale);
    assert!(bench.hear("a", told(7, 1, None)).is_stale);
    assert_eq!(bench.topics.name_of(key).unwrap().1, Uuid::from_u128(8));
}

/// The ids that one server after another tells; whether the answer is stale, and the id after it.
#[test]
fn one_stale_server_is_not_believed_for_ever() {
    type Row = (&'static str, &'static [u128], &'static [(u128, bool)]);
    const STALE: (u128, bool) = (7, true);
    const FRESH: (u128, bool) = (7, false);
    let rows: [Row; 4] = [
        ("it had lost touch itself", &[8, 7, 8, 7], &[(8, false), (7, false), STALE, FRESH]),
        (
            "all others tell of the life that is taken for over",
            &[7, 8, 7, 7, 7, 7, 8],
            &[FRESH, (8, false), (8, true), (8, true), (8, true), FRESH, STALE],
        ),
        (
            "not in a row",
            &[7, 8, 7, 7, 7, 8, 7],
            &[FRESH, (8, false), (8, true), (8, true), (8, true), (8, false), (8, true)],
        ),
        (
            "twice",
            &[7, 8, 7, 7, 7, 7, 8, 8, 8, 8],
            &[
                FRESH,
                (8, false),
                (8, true),
                (8, true),
                (8, true),
                FRESH,
                STALE,
                STALE,
                STALE,
                (8, false),
            ],
        ),
    ];
    for (name, ids, expected) in rows {
        let mut bench = Bench::new(None);
        bench.push("a", Some(0), None);
        let key = Key { topic: 0, partition: 0 };
        let heard = ids.iter().map(|id| {
            let is_stale = bench.hear("a", told(*id, 1, None)).is_stale;
            (bench.topics.name_of(key).unwrap().1.as_u128(), is_stale)
        });
        assert_eq!(heard.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn anybody_may_name_topics_but_not_without_end() {
    let mut bench = Bench::new(None);
    for number in 0..UNKNOWN_TOPICS {
        bench.push(&format!("t{number}"), None, None);
    }
    let record = OutboundRecord {
        topic: "one-more",
        partition: None,
        timestamp: 5,
        key: None,
        value: None,
        headers: &[],
    };
    let pushed = bench.topics.push(0, &record, &mut bench.buffers, bench.now);
    assert!(matches!(pushed, Err(WriteError::Kafka { retriable: true, .. })), "{pushed:?}");
    bench.hear("t5", told(7, 1, None));
    assert!(bench.topics.push(0, &record, &mut bench.buffers, bench.now).is_ok());
}

#[test]
fn a_record_goes_where_it_was_located_and_without_a_key_past_a_full_partition() {
    let mut bench = Bench::new(None);
    let unknown = bench.topics.locate("a", None, Some(b"k")).unwrap();
    assert_eq!(unknown.partition, None);
    bench.push("a", None, Some("k"));
    bench.hear("a", told(1, 3, None));
    let by_key = usize::try_from(of_key(b"k", 3)).unwrap();
    let located = |bench: &mut Bench, key: Option<&[u8]>| {
        bench.topics.locate("a", None, key).unwrap().partition.unwrap()
    };
    assert_eq!(located(&mut bench, Some(b"k")), by_key);
    // One is full, then all of them: then it goes anywhere.
    let first = located(&mut bench, None);
    let full = |bench: &mut Bench, partition| {
        let key = Key { topic: unknown.topic, partition };
        bench.topics.slot(key).unwrap().is_full = true;
    };
    full(&mut bench, first);
    let second = located(&mut bench, None);
    assert_ne!(second, first);
    full(&mut bench, second);
    let third = located(&mut bench, None);
    assert_eq!([first, second, third].iter().sum::<usize>(), 3);
    full(&mut bench, third);
    assert!(located(&mut bench, None) < 3);
    assert_eq!(located(&mut bench, Some(b"k")), by_key, "its key decides");
    // A full one is worth a wait, unlike one without a leader.
    for partition in [first, second] {
        let slot = bench.topics.slot(Key { topic: unknown.topic, partition }).unwrap();
        slot.partition.handle_leader(None);
        slot.is_full = false;
    }
    assert_eq!(located(&mut bench, None), third);
}

/// The batches of each partition, as they would be sent.
fn batches(topics: &mut Topics) -> Vec<(usize, Vec<Ticket>, Vec<u8>)> {
    let keys: Vec<Key> = topics.keys().collect();
    let mut of = |key: Key| topics.slot(key).unwrap().partition.hand_over("end");
    let batches = keys.into_iter().map(|key| (key.partition, of(key)));
    let batches: Vec<_> = batches.collect();
    let batches = batches.into_iter().flat_map(|(partition, batches)| {
        batches
            .into_iter()
            .map(move |(bytes, tickets)| (partition, tickets.iter().collect(), bytes.to_vec()))
    });
    batches.collect()
}

#[test]
fn values_that_follow_make_the_batches_of_one_by_one() {
    let values: Vec<Vec<u8>> =
        (0..6_000).map(|number: usize| vec![number as u8; number * 7 % 331]).collect();
    let timeouts = [None, Some(Duration::from_secs(30))];
    for (codec, timeout) in
        [None, Some(Codec::Lz4)].into_iter().flat_map(|codec| timeouts.map(|one| (codec, one)))
    {
        let made = [false, true].map(|at_once| {
            let mut bench = Bench::new(timeout);
            bench.topics =
                Topics::new(Settings { batch_bytes: 60_000, codec, ..bench.topics.settings }, 9);
            bench.push("a", Some(0), None);
            bench.hear("a", told(7, 3, None));
            let (mut index, mut most) = (0, 0);
            while let Some(value) = values.get(index) {
                if index % 100 == 0 {
                    // A batch may be over by its time.
                    bench.now += Duration::from_millis(300);
                }
                let place = bench.topics.locate("a", None, None).unwrap();
                let record = OutboundRecord {
                    topic: "a",
                    partition: None,
                    timestamp: 5 + (index / 100) as i64,
                    key: None,
                    value: Some(value),
                    headers: &[],
                };
                let Bench { topics, buffers, now, .. } = &mut bench;
                topics.push_to(place, index, &record, buffers, *now).unwrap();
                index += 1;
                if !at_once {
                    continue;
                }
                // Those that come together have one time.
                let (first, end) = (index, index.next_multiple_of(100));
                let next = |bytes: usize| {
                    let value = values.get(index).filter(|_| index < end)?;
                    (value.len() <= bytes).then(|| {
                        index += 1;
                        &**value
                    })
                };
                let count = topics.push_values(place, first, record.timestamp, *now, next);
                assert_eq!(first + count, index);
                most = most.max(count);
            }
            assert_eq!(most > 50, at_once, "{most}");
            batches(&mut bench.topics)
        });
        assert!(made[0] == made[1], "{codec:?} {timeout:?}");
        assert!(made[0].len() > 15, "{}", made[0].len());
    }
}

#[test]
fn values_follow_only_where_the_next_one_would_go() {
    let mut bench = Bench::new(None);
    let follows = |bench: &mut Bench, place| {
        let mut values = [b"v"].into_iter();
        let next = |_: usize| values.next().map(|value| &value[..]);
        bench.topics.push_values(place, 900, 5, bench.now, next)
    };
    let unknown = bench.topics.locate("a", None, None).unwrap();
    assert_eq!(follows(&mut bench, unknown), 0);
    bench.push("a", None, Some("k"));
    bench.hear("a", told(1, 3, None));
    let place = bench.topics.locate("a", None, None).unwrap();
    assert_eq!(follows(&mut bench, place), 0, "no batch is open");
    bench.push("a", None, None);
    for partition in 0..3 {
        let other = PartitionIndex { partition: Some(partition), ..place };
        let is_it = other == bench.topics.locate("a", None, None).unwrap();
        assert_eq!(follows(&mut bench, other), usize::from(is_it), "{partition}");
    }
    let place = bench.topics.locate("a", None, None).unwrap();
    let key = Key { topic: place.topic, partition: place.partition.unwrap() };
    bench.topics.slot(key).unwrap().is_full = true;
    assert_eq!(follows(&mut bench, place), 0, "it is full");
}
