//! Resets: each position keeps its meaning, whatever is in the ring or on its way when one is told.

use std::collections::{BTreeSet, VecDeque};

use super::*;

/// A partition and the chunks of it that are in the ring.
struct Stage {
    partition: Partition,
    ring: VecDeque<(Chunk, Arc<Progress>)>,
    /// The position that the group has, unless commits may go back.
    committed: Option<i64>,
}

impl Stage {
    fn new(start: i64) -> Self {
        Self { partition: partition(start), ring: VecDeque::new(), committed: Some(start) }
    }

    fn announce(&mut self, generation: Generation) -> bool {
        let goes_back = self.partition.announce(generation);
        self.committed.take_if(|_| goes_back);
        goes_back
    }

    fn commit(&mut self) {
        self.committed = Some(self.partition.progress.to_commit().unwrap().1);
    }

    /// Records of a generation come and are put into the ring; offset and `prev` of each.
    fn fetch(&mut self, generation: Generation, fetched: &mut Fake) -> Vec<(i64, Option<i64>)> {
        if generation.number > self.partition.generation() {
            self.announce(generation);
            self.partition.begin(generation);
        }
        let step = self.partition.encode(fetched, &chunks_of(WHOLE)).unwrap();
        let links = links(&step);
        self.ring.extend(step.chunk.map(|chunk| (chunk, Arc::clone(&self.partition.progress))));
        self.check();
        links
    }

    /// Every peer is past so many chunks.
    fn deliver(&mut self, chunks: usize) {
        for (chunk, progress) in self.ring.drain(..chunks) {
            progress.origin.deliver(chunk.position());
        }
        self.check();
    }

    fn check(&self) {
        let progress = &self.partition.progress;
        let (delivered, read) = (progress.delivered(), progress.read());
        assert!(
            self.committed.is_none_or(|committed| committed <= delivered) && delivered <= read,
            "{progress:?}"
        );
    }

    fn stands(&self) -> (i64, i64, bool) {
        let progress = &self.partition.progress;
        (progress.read(), progress.delivered(), progress.is_drained())
    }
}

/// An event of a partition of ten records from 0 to 9, of which the first four chunks of two are
/// fetched and put into the ring, and the first two of these are delivered: `read` is 8,
/// `delivered` 4, and one chunk is on its way.
enum Do {
    /// The delivery of so many chunks.
    Deliver(usize),
    /// The fetched records that were on their way arrive.
    Come,
    /// The next generation has records from its start on, or none as yet.
    Begin(Vec<i64>),
}
use Do::{Begin, Come, Deliver};

/// The position that is read, the one that is delivered, and whether that is all.
type Stands = (i64, i64, bool);
/// A name; the offset of the truncation, whether commits go back, and the positions then; the
/// events that follow, and the positions after them.
type Case = (&'static str, i64, bool, Stands, Vec<(Do, Stands)>);

#[test]
fn what_was_read_before_a_reset_stays_owed_as_far_as_the_log_goes() {
    let cases: [Case; 8] = [
        (
            "back into what is delivered",
            2,
            true,
            (2, 2, true),
            vec![
                (Deliver(1), (2, 2, true)),
                (Begin(vec![2, 3]), (4, 2, false)),
                (Deliver(1), (4, 2, false)),
                (Deliver(1), (4, 4, true)),
            ],
        ),
        ("back to what is delivered", 4, false, (4, 4, true), vec![(Begin(vec![]), (4, 4, true))]),
        (
            "back into what is read",
            6,
            false,
            (6, 4, false),
            vec![
                (Deliver(1), (6, 6, true)),
                (Come, (6, 6, true)),
                (Begin(vec![6]), (7, 6, false)),
                (Deliver(2), (7, 6, false)),
                (Deliver(1), (7, 7, true)),
            ],
        ),
        (
            "back into what is read, and begun before that is delivered",
            6,
            false,
            (6, 4, false),
            vec![
                (Begin(vec![6, 7, 8]), (9, 4, false)),
                (Deliver(1), (9, 6, false)),
                (Deliver(1), (9, 6, false)),
                (Deliver(1), (9, 9, true)),
            ],
        ),
        (
            "back, to where there is no record yet",
            7,
            false,
            (7, 4, false),
            vec![
                (Begin(vec![]), (7, 4, false)),
                (Deliver(2), (7, 7, true)),
                (Deliver(1), (7, 7, true)),
            ],
        ),
        (
            "back into what is on its way",
            9,
            false,
            (8, 4, false),
            vec![
                (Come, (9, 4, false)),
                (Begin(vec![9]), (10, 4, false)),
                (Deliver(2), (10, 8, false)),
                (Deliver(1), (10, 9, false)),
                (Deliver(1), (10, 10, true)),
            ],
        ),
        (
            "on",
            20,
            false,
            (8, 4, false),
            vec![
                (Come, (10, 4, false)),
                (Deliver(3), (10, 10, true)),
                (Begin(vec![20]), (21, 10, false)),
                (Deliver(1), (21, 21, true)),
            ],
        ),
        (
            "on, to an end",
            20,
            false,
            (8, 4, false),
            vec![
                (Begin(vec![]), (20, 4, false)),
                (Deliver(2), (20, 8, false)),
                (Deliver(1), (20, 20, true)),
            ],
        ),
    ];
    for (name, to, goes_back, stands, steps) in cases {
        let mut stage = Stage::new(0);
        let first = stage.partition.progress.assignment.generation();
        for at in [0, 2, 4, 6] {
            stage.fetch(first, &mut records([at, at + 1], at + 2));
        }
        stage.deliver(2);
        assert_eq!(stage.stands(), (8, 4, false));
        stage.commit();

        let next = Generation { number: 1, start: to };
        assert_eq!(stage.announce(next), goes_back, "{name}");
        assert!(!stage.announce(next), "{name}: told twice");
        assert_eq!(stage.stands(), stands, "{name}");
        for (at, (step, stands)) in steps.into_iter().enumerate() {
            match step {
                Deliver(chunks) => stage.deliver(chunks),
                Come => {
                    let links = stage.fetch(first, &mut records([8, 9], 10));
                    assert_eq!(links, [(8, Some(7)), (9, Some(8))], "{name}: as they were read");
                }
                Begin(offsets) => {
                    let links = stage.fetch(next, &mut records(offsets.clone(), to.max(0)));
                    let prevs = std::iter::once(None).chain(offsets.iter().copied().map(Some));
                    let expected: Vec<_> = offsets.iter().copied().zip(prevs).collect();
                    assert_eq!(links, expected, "{name}: the first has no `prev`");
                }
            }
            assert_eq!(stage.stands(), stands, "{name}: step {at}");
        }
    }
}

#[test]
fn a_generation_whose_first_chunk_is_discarded_leaves_what_was_before_it() {
    for to in [3, 20] {
        let mut stage = Stage::new(0);
        let first = stage.partition.progress.assignment.generation();
        stage.fetch(first, &mut records([0, 1, 2, 3, 4], 5));
        let generation = Generation { number: 1, start: to };
        stage.partition.announce(generation);
        stage.partition.begin(generation);
        let step = stage.partition.encode(&mut records([to], to + 1), &chunks_of(WHOLE)).unwrap();
        let progress = Arc::clone(&stage.partition.progress);
        crate::kafka_to_zmq::progress::PendingChunk {
            chunk: step.chunk.unwrap(),
            progress,
            from: step.from,
        }
        .discard();
        assert_eq!(stage.stands(), (5.min(to), 0, false), "to {to}");
        stage.deliver(1);
        assert_eq!(stage.stands(), (5.min(to), 5.min(to), true), "to {to}");
    }
}

#[test]
fn the_origins_of_a_partition_are_no_more_than_its_chunks() {
    let mut stage = Stage::new(0);
    for number in 1..100 {
        stage.fetch(Generation { number, start: 0 }, &mut records([], 0));
    }
    assert_eq!(stage.partition.progress.origins().count(), 99, "each has a chunk in the ring");
    stage.deliver(99);
    stage.fetch(Generation { number: 100, start: 0 }, &mut records([], 0));
    assert_eq!(stage.partition.progress.origins().count(), 2);
}

/// A partition whose log is truncated again and again, and the place of each of its chunks.
struct Model {
    stage: Stage,
    /// Each record's own number, by its offset.
    log: Vec<u64>,
    written: u64,
    /// The generation that is fetched, and the next offset of it.
    fetching: (Generation, i64),
    /// Records on their way to the route.
    on_their_way: VecDeque<(Generation, Vec<u64>, i64)>,
    /// Resets that the route has not been told of.
    untold: VecDeque<Generation>,
    delivered: BTreeSet<u64>,
}

impl Model {
    fn write(&mut self) {
        self.log.push(self.written);
        self.written += 1;
    }

    fn fetch(&mut self, count: i64) {
        let (generation, from) = self.fetching;
        let end = (from + count).min(self.log.len() as i64);
        let values = self.log[from as usize..end as usize].to_vec();
        self.on_their_way.push_back((generation, values, from));
        self.fetching.1 = end;
    }

    /// The log is truncated, and soon continues with other records.
    fn cut(&mut self, to: i64) {
        let (generation, due) = self.fetching;
        self.log.truncate(to as usize);
        if to < due {
            let generation = Generation { number: generation.number + 1, start: to };
            self.untold.push_back(generation);
            self.fetching = (generation, to);
        }
    }

    fn come(&mut self) {
        let Some((generation, values, from)) = self.on_their_way.pop_front() else { return };
        self.untold.retain(|untold| untold.number > generation.number);
        let end = from + values.len() as i64;
        for (value, offset) in values.into_iter().zip(from..) {
            let value = value.to_string().into_bytes();
            let mut fetched = records([offset], offset + 1);
            fetched.records.value = value;
            self.stage.fetch(generation, &mut fetched);
        }
        self.stage.fetch(generation, &mut records([], end));
    }

    fn tell(&mut self) {
        if let Some(generation) = self.untold.pop_front() {
            self.stage.announce(generation);
        }
    }

    fn deliver(&mut self, chunks: usize) {
        let chunks = chunks.min(self.stage.ring.len());
        for (chunk, _) in self.stage.ring.iter().take(chunks) {
            let numbers = decoded(chunk).into_iter().map(|record| {
                String::from_utf8(record.value.unwrap()).unwrap().parse::<u64>().unwrap()
            });
            self.delivered.extend(numbers);
        }
        self.stage.deliver(chunks);
    }

    /// Asserts that a commit, if the relay were to end now, would skip nothing that the log still
    /// has.
    fn check(&self, seed: u64) {
        let (_, position) = self.stage.partition.progress.to_commit().unwrap();
        // A reset that was not reported is unknown to the route.
        let known = self.untold.iter().map(|untold| untold.start).fold(position, i64::min);
        for offset in 0..known {
            let value = self.log[offset as usize];
            assert!(
                self.delivered.contains(&value),
                "seed {seed}: {offset} of {position} was not delivered"
            );
        }
    }
}

#[test]
fn nothing_that_the_log_still_has_is_passed_without_being_delivered() {
    for seed in 1..200_u64 {
        let stage = Stage::new(0);
        let first = stage.partition.progress.assignment.generation();
        let mut model = Model {
            stage,
            log: Vec::new(),
            written: 0,
            fetching: (first, 0),
            on_their_way: VecDeque::new(),
            untold: VecDeque::new(),
            delivered: BTreeSet::new(),
        };
        let mut state = seed;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            match random(17) {
                0..5 => model.write(),
                5..8 => model.fetch(1 + random(4) as i64),
                8..11 => model.come(),
                11..13 => model.deliver(random(3) as usize),
                13..15 => model.tell(),
                15 => model.stage.commit(),
                _ => model.cut(random(model.log.len() as u64 + 1) as i64),
            }
            model.check(seed);
        }
        // All that is left comes and is delivered.
        model.fetch(i64::MAX / 2);
        while !model.on_their_way.is_empty() {
            model.come();
            model.check(seed);
        }
        model.deliver(usize::MAX);
        model.check(seed);
        let end = model.log.len() as i64;
        assert_eq!(model.stage.stands(), (end, end, true), "seed {seed}");
    }
}

#[test]
fn what_is_skipped_while_nobody_reads_is_not_read_again() {
    // What was read and delivered, the offset that was due, the start; the position then.
    for (name, read, is_delivered, from, start, stands) in [
        ("nothing was read", &[][..], false, 5, 10, 10),
        ("all is delivered", &[5, 6], true, 7, 10, 10),
        ("something was thrown away", &[], false, 7, 10, 5),
        ("something is in the ring", &[5, 6], false, 7, 10, 5),
        ("the log ends before", &[5, 6], true, 7, 6, 6),
    ] {
        let mut stage = Stage::new(5);
        if !read.is_empty() {
            let first = stage.partition.progress.assignment.generation();
            stage.fetch(first, &mut records(read.iter().copied(), 7));
            stage.deliver(usize::from(is_delivered));
        }
        let next = Generation { number: 1, start };
        stage.announce(next);
        assert!(!stage.partition.skip(next, from), "{name}: it is read");
        stage.partition.gate = Gate::new(false);
        assert_eq!(stage.partition.skip(next, from), stands == start && start > from, "{name}");
        assert_eq!(stage.partition.progress.delivered(), stands, "{name}");
        assert_eq!(stage.partition.newest(), 1, "{name}");
        stage.check();
        assert!(!stage.partition.skip(next, from), "{name}: once");
    }
}
