//! The partition against a model of a cluster, with faults by a seed.
//!
//! The model has what decides: logs of several replicas, what a leader knows of a producer (the
//! last five batches), leaders that change, requests that arrive long after their connection ended,
//! and answers that never come. The judge compares what was reported with the log.

mod bugs;
mod cluster;
mod judge;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Answer, Buffers, Fill, Leader, Partition, Request, Settings, WINDOW};
use crate::produce::Ticket;
use crate::records::{NewRecord, ProducerId};
use bugs::Bug;
use cluster::Cluster;
use judge::Judge;

/// SplitMix64: as good as is needed here, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A connection to a broker: requests on their way there, and answers on their way back.
#[derive(Default)]
struct Link {
    broker: i32,
    requests: VecDeque<Request>,
    /// The request, and what became of it; none if it will never be answered.
    answers: VecDeque<(u64, Answer)>,
    /// Requests without an answer yet.
    waited: Vec<u64>,
}

struct World {
    random: Random,
    now: Instant,
    partition: Partition,
    buffers: Buffers,
    cluster: Cluster,
    link: Option<Link>,
    /// Requests whose connection has ended, and that a broker may still work on.
    late: Vec<(i32, Bytes)>,
    asked_id: bool,
    ids: i64,
    next: Ticket,
    judge: Judge,
    /// Bytes by producer, epoch and sequence: a sequence has the same ones for ever.
    sealed: BTreeMap<(i64, i16, i32), Bytes>,
    /// The last leader that reported something as written in its epoch.
    answered: Option<Leader>,
    /// A mistake that is to be found by the judge, not by what the world looks at itself.
    bug: Option<Bug>,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random(seed);
        let now = Instant::now();
        let settings = Settings {
            batch_bytes: [80, 200, 1000][random.below(3)],
            linger: Duration::from_millis([0, 0, 5][random.below(3)]),
            delivery_timeout: random.one_in(3).then(|| Duration::from_secs(5)),
            codec: None,
        };
        Self {
            now,
            partition: Partition::new(0, settings),
            buffers: Buffers::default(),
            cluster: Cluster::new(),
            link: None,
            late: Vec::new(),
            asked_id: false,
            ids: 0,
            next: 0,
            judge: Judge::default(),
            sealed: BTreeMap::new(),
            answered: None,
            bug,
            random,
        }
    }

    fn push(&mut self) {
        for _ in 0..=self.random.below(8) {
            let value = self.next.to_be_bytes();
            let record = NewRecord { timestamp: 5, key: None, value: Some(&value), headers: &[] };
            self.partition.push(self.next, &record, &mut self.buffers, self.now);
            self.next += 1;
        }
    }

    fn send(&mut self) {
        self.plant_before_sending();
        if self.partition.poll_id(self.now) {
            assert!(!self.asked_id, "one id is asked for at a time");
            self.asked_id = true;
        }
        let fill = if self.random.one_in(4) { Fill::Full } else { Fill::Any };
        while let Some(request) = self.partition.poll_request(self.now, fill, &mut self.buffers) {
            let request = self.check(request);
            let broker = self.partition.broker().unwrap();
            if let Some(link) = &self.link
                && link.broker != broker
            {
                let ended = link.waited.is_empty();
                assert!(ended, "requests at the leader before have not ended");
                self.link = None;
            }
            let link = self.link.get_or_insert_with(|| Link { broker, ..Link::default() });
            link.waited.push(request.number);
            let waited = link.waited.len();
            link.requests.push_back(request);
            if self.bug.is_some() {
                continue;
            }
            assert!(waited <= WINDOW, "{waited} requests are in flight");
            let known = self.partition.leader == self.answered;
            assert!(known || waited == 1, "a second request before the leader's first answer");
        }
    }

    /// Checks that a sequence has one content.
    fn check(&mut self, request: Request) -> Request {
        let header = cluster::header(&request.bytes);
        let key = (header.producer.id, header.producer.epoch, header.sequence);
        let last = self.sealed.values().next().cloned();
        let first = self.sealed.entry(key).or_insert_with(|| request.bytes.clone());
        if self.bug.is_none() {
            assert_eq!(*first, request.bytes, "sealed bytes have changed");
        }
        match (self.bug, last) {
            (Some(Bug::BufferUsedAgainInFlight), Some(last)) if self.random.one_in(20) => {
                Request { bytes: last, ..request }
            }
            _ => request,
        }
    }

    fn give_id(&mut self) {
        if !std::mem::take(&mut self.asked_id) {
            return;
        }
        let answer = match self.random.below(6) {
            0 => Err(Some(kafka_protocol::ResponseError::CoordinatorLoadInProgress)),
            1 => Err(None),
            _ => {
                self.ids += 1;
                // Close to the last epoch, so that ids run out.
                Ok(ProducerId { id: self.ids, epoch: i16::MAX - self.random.below(3) as i16 })
            }
        };
        self.partition.handle_id(answer, self.now);
    }

    /// Lets the broker work on the oldest request of the connection.
    fn work(&mut self) {
        let Some(link) = &mut self.link else { return };
        let Some(request) = link.requests.pop_front() else { return };
        let answer = self.cluster.produce(link.broker, &request.bytes, &mut self.random);
        // A request that was written may come once more.
        if answer.error.is_none() && self.random.one_in(20) {
            self.late.push((link.broker, request.bytes));
        }
        link.answers.push_back((request.number, answer));
    }

    fn answer(&mut self) {
        let Some(link) = &mut self.link else { return };
        let Some((number, mut answer)) = link.answers.pop_front() else { return };
        link.waited.retain(|waited| *waited != number);
        self.plant_in_answer(&mut answer);
        let duplicate = kafka_protocol::ResponseError::DuplicateSequenceNumber;
        if answer.error.is_none_or(|code| code == duplicate) {
            self.answered = self.partition.at;
        }
        self.partition.handle_answer(number, &answer, &mut self.buffers, self.now);
    }

    fn break_link(&mut self) {
        let Some(link) = self.link.take() else { return };
        let unsent = self.random.below(link.requests.len() + 1);
        let mut requests = link.requests;
        let never_sent = requests.split_off(requests.len() - unsent);
        for request in requests {
            self.late.push((link.broker, request.bytes));
        }
        if !link.waited.is_empty() {
            self.answered = None;
        }
        for number in link.waited {
            let was_sent = !never_sent.iter().any(|request| request.number == number);
            self.partition.handle_lost(number, was_sent, self.now);
        }
        self.plant_after_loss();
    }

    fn work_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let index = self.random.below(self.late.len());
        let (broker, bytes) = self.late.swap_remove(index);
        if !self.random.one_in(3) {
            self.cluster.produce(broker, &bytes, &mut self.random);
        }
    }

    fn pass(&mut self, limit: usize) {
        self.now += Duration::from_millis(self.random.below(limit) as u64);
        if self.partition.poll_timeout().is_some_and(|(due, _)| due <= self.now) {
            self.partition.handle_timeout(self.now);
        }
    }

    fn listen(&mut self) {
        self.partition.handle_leader(self.cluster.leader());
    }

    fn hear(&mut self) {
        while let Some(deliveries) = self.partition.poll_delivery() {
            if let Some(deliveries) = self.plant_in_deliveries(deliveries) {
                self.judge.hear(deliveries);
            }
        }
        while self.partition.poll_report().is_some() {}
    }

    /// Returns true if all that any log has of us is known. A broker that has forgotten a producer
    /// looks like one that never knew it.
    fn nothing_is_in_doubt(&self) -> bool {
        let in_doubt = self.partition.sealed.iter().any(|batch| batch.may_be_written);
        self.late.is_empty() && self.link.is_none() && !in_doubt
    }

    fn step(&mut self) {
        match self.random.below(64) {
            0..12 => self.push(),
            12..26 => self.send(),
            26..30 => self.give_id(),
            30..40 => self.work(),
            40..50 => self.answer(),
            50 => self.break_link(),
            51 => self.cluster.change_leader(&mut self.random),
            52..55 => self.listen(),
            55 => self.cluster.restart(&mut self.random),
            56 => self.cluster.replicate(),
            57 => self.work_late(),
            58 => self.cluster.change_limits(&mut self.random),
            59 if self.nothing_is_in_doubt() => self.cluster.delete_records(),
            60 if self.random.one_in(20) => self.pass(90_000),
            _ => self.pass(100),
        }
        self.hear();
    }

    /// Ends the faults; then everything settles.
    fn heal(&mut self) {
        self.break_link();
        self.cluster.heal();
        for _ in 0..20_000 {
            if self.partition.is_empty() {
                break;
            }
            self.listen();
            self.send();
            self.give_id();
            self.work();
            self.answer();
            self.pass(100);
            self.hear();
        }
        assert!(self.partition.is_empty(), "it does not end: {:?}", self.partition);
        while !self.late.is_empty() {
            self.work_late();
        }
        self.cluster.replicate();
    }
}

fn run(seed: u64, bug: Option<Bug>) -> judge::Outcome {
    let mut world = World::new(seed, bug);
    world.listen();
    for _ in 0..400 {
        world.step();
    }
    world.heal();
    world.judge.judge(world.next, &world.cluster)
}

#[test]
fn what_is_told_is_so_whatever_goes_wrong() {
    const SEEDS: u64 = 2_000;
    let mut told = judge::Outcome::default();
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| run(seed, None)) {
            Ok(counts) => told.add(&counts),
            Err(_) => panic!("seed {seed}"),
        }
    }
    // The faults were there, and most was written all the same.
    assert!(told.written > 10 * told.unknown && told.unknown > 500, "{told:?}");
    assert!(told.failed > 500 && told.duplicates > 50, "{told:?}");
}
