//! Parts that the tests of faults share: load, stuck routes, and what subscribers have in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use zafka_testkit::Produced;
use zafka_testkit::{Checker, LibzmqSub, Peer, Received, Sequence, Session, Zafka};

use crate::{DEADLINE, decoded};

/// Committed offsets by partition.
pub type Committed = BTreeMap<(String, i32), i64>;

/// A sequence over the first `partitions` partitions, large enough to fill what stands between
/// zafka and a SUB.
pub fn flood(topic: &str, partitions: i32, count: usize) -> Sequence {
    Sequence {
        partitions: (0..partitions).collect(),
        value_size: 2_000,
        ..Sequence::new(topic, count)
    }
}

/// A sequence at a rate.
pub fn load(topic: &str, partitions: i32, count: usize, per_second: u64) -> Sequence {
    Sequence { partitions: (0..partitions).collect(), per_second, ..Sequence::new(topic, count) }
}

/// A subscriber that can be asked for its messages.
pub trait Subscriber {
    /// Its messages so far.
    fn received(&self) -> Vec<Vec<Vec<u8>>>;
}

impl Subscriber for LibzmqSub {
    fn received(&self) -> Vec<Vec<Vec<u8>>> {
        self.messages()
    }
}

impl Subscriber for Peer {
    fn received(&self) -> Vec<Vec<Vec<u8>>> {
        self.messages()
    }
}

/// Waits until the subscribers together have `total` different records, and gives what each has. At
/// the deadline it gives what there is: the checker tells what is missing.
pub fn wait_records(subscribers: &[&dyn Subscriber], total: usize) -> Vec<Vec<Received>> {
    let end = Instant::now() + 2 * DEADLINE;
    let mut all: Vec<Vec<Received>> = subscribers.iter().map(|_| Vec::new()).collect();
    let mut positions = BTreeSet::new();
    loop {
        for (subscriber, messages) in subscribers.iter().zip(&mut all) {
            let new = decoded(&subscriber.received()[messages.len()..]);
            positions.extend(new.iter().map(|m| (m.topic.clone(), m.partition, m.offset)));
            messages.extend(new);
        }
        if positions.len() >= total || Instant::now() > end {
            return all;
        }
        sleep(Duration::from_millis(200));
    }
}

/// Divides what one subscriber received into sessions: `prev` is absent in the first message after
/// an assignment, and in no other. Each floor is what was committed before an assignment; there are
/// no more sessions than floors.
pub fn sessions(messages: Vec<Received>, floors: &[Committed]) -> Vec<Session> {
    let mut take_ups: BTreeMap<(String, i32), usize> = BTreeMap::new();
    let mut sessions: Vec<Session> =
        floors.iter().map(|floor| Session::above(Vec::new(), floor.clone())).collect();
    for message in messages {
        let count = take_ups.entry((message.topic.clone(), message.partition)).or_default();
        *count += usize::from(message.prev.is_none());
        let position = (&message.topic, message.partition, message.offset);
        assert!((1..=floors.len()).contains(count), "assignment {count} at {position:?}");
        sessions[*count - 1].messages.push(message);
    }
    sessions
}

/// A checker that expects these sequences.
pub fn expecting(written: &[(&Sequence, &[Produced])]) -> Checker {
    let mut checker = Checker::new();
    for (sequence, produced) in written {
        checker.expect_sequence(sequence, produced);
    }
    checker
}

/// Waits until a route has so many subscribers.
pub fn wait_subscribed(relay: &mut Zafka, route: usize, peers: usize) {
    relay.wait_status("the peers to be subscribed", DEADLINE, |status| {
        status["routes"][route]["peers_subscribed"] == peers
    });
}

/// Waits until a route does nothing any more though there is more to read: its ring is full, and
/// what was delivered is committed.
pub fn wait_stuck(relay: &mut Zafka, route: usize) -> Value {
    let mut last = None;
    let mut same = 0;
    relay.wait_status(
        "the route to be stuck and all that was delivered to be committed",
        DEADLINE,
        |status| {
            let route = &status["routes"][route];
            let partitions = route["partitions"].as_array().unwrap();
            let committed = partitions.iter().all(|p| p["committed"] == p["delivered"]);
            let full =
                route["ring_bytes"].as_u64() >= route["ring_bytes_max"].as_u64().map(|max| max / 2);
            let now =
                Some((route["counters"]["messages_sent"].clone(), route["ring_bytes"].clone()));
            same = if committed && full && now == last { same + 1 } else { 0 };
            last = now;
            same > 25
        },
    )
}

/// Committed offsets as a relay shows them for a route.
pub fn shown_committed(status: &Value, route: usize) -> Committed {
    let partitions = status["routes"][route]["partitions"].as_array().unwrap().iter();
    partitions.filter_map(|p| Some((partition_of(p), p["committed"].as_i64()?))).collect()
}

/// The partitions that a relay shows for its first route.
pub fn held(status: &Value) -> BTreeSet<i32> {
    let partitions = status["routes"][0]["partitions"].as_array().unwrap().iter();
    partitions.map(|p| partition_of(p).1).collect()
}

fn partition_of(shown: &Value) -> (String, i32) {
    let number = i32::try_from(shown["partition"].as_i64().unwrap()).unwrap();
    (shown["topic"].as_str().unwrap().to_owned(), number)
}

/// The end of a subscriber's way in each partition: one more than the highest offset it has.
pub fn ends(messages: &[Received]) -> Committed {
    let mut ends = Committed::new();
    for message in messages {
        let end = ends.entry((message.topic.clone(), message.partition)).or_default();
        *end = (*end).max(message.offset + 1);
    }
    ends
}
