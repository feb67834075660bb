//! Asks where partitions begin, and commits that before anything is read: a crash must not turn
//! "latest" into a skip.

use std::collections::{BTreeSet, HashMap};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::starts::{Known, Plan, smaller};
use super::{
    Begin, Beginning, Lookup, NO_ANSWER, Offsets, Open, StillWanted, TakenUp, WAIT, Wanted,
};
use crate::client::{Part, plain};
use crate::config::Start;
use crate::native;

/// How long the starts of a topic are asked for, where some of its partitions do not tell theirs,
/// before it begins without those.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);
/// Partitions of one commit. A broker takes as many as fit one batch of its offsets topic, a
/// megabyte by default.
const COMMITTED_AT_ONCE: usize = 2000;

/// Why a partition is left open.
const NO_COMMITTED: &str = "the committed offset is not known";
const NO_START: &str = "the start is not known";
const NOT_COMMITTED: &str = "the start was not committed";

/// A partition of this member, and where it was found to begin.
struct Found {
    wanted: Wanted,
    start: i64,
}

/// Topics that begin now.
#[derive(Default)]
struct Beginnings {
    own: Vec<Found>,
    /// Partitions that are not this member's, as far as is known.
    others: Vec<(Part, i64)>,
    /// Those that begin at their earliest offset all the same.
    late: Vec<Wanted>,
}

impl Lookup {
    /// Where partitions begin without a group.
    pub(super) fn take_up(&self, wanted: Vec<Wanted>) -> TakenUp {
        let mut taken_up = TakenUp::default();
        for Found { wanted, start } in self.resolve(wanted, &mut taken_up) {
            taken_up.begins.push(Begin { part: wanted.part, start, committed: None, epoch: -1 });
        }
        self.report_open(&taken_up);
        taken_up
    }

    /// Where partitions begin that the group gave.
    pub(super) fn take_up_in_group(
        &mut self,
        wanted: Vec<Wanted>,
        known: &Known,
        still: &StillWanted,
    ) -> TakenUp {
        let mut taken_up = TakenUp::default();
        let new = self.committed(wanted, &mut taken_up);
        let (at_start, mut rest): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|wanted| wanted.beginning.is_at_start());
        let Beginnings { mut own, mut others, late } = self.begin(at_start, known, &mut taken_up);
        rest.extend(late);
        // That may have taken seconds. What the group has given to another member meanwhile is that
        // one's to commit.
        own.retain(|found| still.contains(&found.wanted.part));
        if own.is_empty() {
            others.clear();
        } else {
            own = self.begun_meanwhile(own, &mut others, &mut taken_up);
        }
        let begins_topics = !own.is_empty();
        own.extend(self.resolve(rest, &mut taken_up));
        own.retain(|found| still.contains(&found.wanted.part));
        let committed = self.commit(own, &others, &mut taken_up);
        if begins_topics {
            self.begin_at_the_smaller(committed, &mut taken_up);
        } else {
            taken_up.begins.extend(committed.into_iter().map(Begin::committed));
        }
        self.report_open(&taken_up);
        taken_up
    }

    fn report_open(&self, taken_up: &TakenUp) {
        for what in [NO_COMMITTED, NO_START, NOT_COMMITTED] {
            let open = taken_up.open.iter().filter(|open| open.what == what);
            let failed = open.map(|Open { wanted, reason, .. }| {
                (&*wanted.part.0, wanted.part.1, reason.clone())
            });
            self.client.context().report_partitions(what, failed);
        }
    }

    /// Those without a committed offset.
    fn committed(&self, wanted: Vec<Wanted>, taken_up: &mut TakenUp) -> Vec<Wanted> {
        let mut committed = self.committed_offsets(wanted.iter().map(|wanted| &wanted.part));
        let mut new = Vec::new();
        for wanted in wanted {
            match committed.take(&wanted.part) {
                Ok(Some((start, epoch))) => {
                    let (part, committed) = (wanted.part, Some(start));
                    taken_up.begins.push(Begin { part, start, committed, epoch });
                }
                Ok(None) => new.push(wanted),
                Err(reason) => taken_up.leave_open(wanted, NO_COMMITTED, reason),
            }
        }
        new
    }

    /// With the leader epochs that were committed with them.
    fn committed_offsets<'a>(&self, parts: impl Iterator<Item = &'a Part>) -> Offsets<(i64, i32)> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in parts {
            list.add_partition(topic, *partition);
        }
        let list = match self.client.committed_offsets(list, WAIT) {
            Ok(list) => list,
            Err(error) => return Offsets { found: HashMap::new(), otherwise: plain(&error) },
        };
        let epochs = native::leader_epochs(&list);
        let found = list.elements().into_iter().zip(epochs).map(|(element, epoch)| {
            let offset = match (element.error(), element.offset()) {
                (Err(error), _) => Err(plain(&error)),
                (Ok(()), Offset::Offset(offset)) => Ok(Some((offset, epoch))),
                (Ok(()), _) => Ok(None),
            };
            ((element.topic().to_owned(), element.partition()), offset)
        });
        Offsets { found: found.collect(), otherwise: NO_ANSWER.to_owned() }
    }

    /// Plans for partitions that are to begin at `start` if their topic has not begun, and finds
    /// where that is, for all partitions of the topics that begin with them.
    fn begin(&mut self, wanted: Vec<Wanted>, known: &Known, taken_up: &mut TakenUp) -> Beginnings {
        let Some(start) = wanted.first().and_then(|wanted| wanted.beginning.start()) else {
            return Beginnings::default();
        };
        let new: Vec<Part> = wanted.into_iter().map(|wanted| wanted.part).collect();
        let at_start = |part| Wanted { part, beginning: Beginning::At(start) };
        let committed = self.committed_offsets(known.parts(&new).iter());
        if committed.found.is_empty() {
            for part in new {
                taken_up.leave_open(at_start(part), NO_COMMITTED, committed.otherwise.clone());
            }
            return Beginnings::default();
        }
        let plan = known.plan(&self.selection, &new, &committed.found);
        let Plan { at_start: own, others, late, open } = plan;
        for (part, reason) in open {
            taken_up.leave_open(at_start(part), NO_COMMITTED, reason);
        }
        let mut beginnings = Beginnings::default();
        beginnings.late.extend(late.into_iter().map(Wanted::late));
        let topics: BTreeSet<&str> = own.iter().map(|part| &*part.0).collect();
        if !topics.is_empty() {
            info!(
                route = self.route,
                ?topics,
                ?start,
                "the group has no committed offset for these topics: they begin at `start`"
            );
        }
        let mut starts = self.starts(own.iter().chain(&others), start);
        for part in own {
            match starts.take(&part) {
                Ok(Some(start)) => beginnings.own.push(Found { wanted: at_start(part), start }),
                answer => {
                    self.tell_no_start(&part, answer);
                    beginnings.late.push(Wanted::late(part));
                }
            }
        }
        for part in others {
            match starts.take(&part) {
                Ok(Some(start)) => beginnings.others.push((part, start)),
                answer => self.tell_no_start(&part, answer),
            }
        }
        beginnings
    }

    fn tell_no_start(&self, (topic, partition): &Part, answer: Result<Option<i64>, String>) {
        let reason = answer.err().unwrap_or_else(|| NO_OFFSET.to_owned());
        warn!(
            route = self.route,
            topic,
            partition,
            reason,
            "its end could not be asked for when its topic began: the partition begins at its earliest offset"
        );
    }

    /// Where partitions begin at `start`. What was found once is so until it is committed: "latest"
    /// is not asked for twice. Those that do not tell are asked anew for a while.
    fn starts<'a>(&mut self, parts: impl Iterator<Item = &'a Part>, start: Start) -> Offsets {
        let (mut known, mut asked) = (HashMap::new(), Vec::new());
        for part in parts {
            match self.found.get(part) {
                Some(start) => drop(known.insert(part.clone(), Ok(Some(*start)))),
                None => asked.push(part),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut otherwise = NO_ANSWER.to_owned();
        while !asked.is_empty() {
            let mut answers = self.at(asked.iter().map(|part| (*part, start)));
            asked.retain(|part| match answers.found.remove(*part) {
                Some(Ok(Some(start))) => {
                    self.found.insert((*part).clone(), start);
                    known.insert((*part).clone(), Ok(Some(start)));
                    false
                }
                Some(answer) => {
                    known.insert((*part).clone(), answer);
                    true
                }
                None => true,
            });
            otherwise = answers.otherwise;
            if Instant::now() >= deadline {
                break;
            }
            sleep(PAUSE);
        }
        Offsets { found: known, otherwise }
    }

    /// Looks once more before topics are begun: of those that another member has begun meanwhile,
    /// what is not this member's is left alone. Gives what of its own is still to be committed.
    fn begun_meanwhile(
        &self,
        own: Vec<Found>,
        others: &mut Vec<(Part, i64)>,
        taken_up: &mut TakenUp,
    ) -> Vec<Found> {
        let own_parts = own.iter().map(|found| &found.wanted.part);
        let mut committed =
            self.committed_offsets(own_parts.chain(others.iter().map(|(part, _)| part)));
        let begun: BTreeSet<String> = (committed.found.iter())
            .filter(|(_, answer)| !matches!(answer, Ok(None)))
            .map(|((topic, _), _)| topic.clone())
            .collect();
        others.retain(|(part, _)| !begun.contains(&part.0));
        let mut due = Vec::with_capacity(own.len());
        for found in own {
            match committed.take(&found.wanted.part) {
                Ok(Some((stands, epoch))) if smaller(found.start, Some(stands)) == stands => {
                    let (part, committed) = (found.wanted.part, Some(stands));
                    taken_up.begins.push(Begin { part, start: stands, committed, epoch });
                }
                Ok(_) => due.push(found),
                Err(reason) => taken_up.leave_open(found.wanted, NO_COMMITTED, reason),
            }
        }
        if due.is_empty() {
            others.clear();
        }
        due
    }

    /// Where partitions begin that do not wait for their topic.
    fn resolve(&self, wanted: Vec<Wanted>, taken_up: &mut TakenUp) -> Vec<Found> {
        let asked =
            wanted.iter().filter_map(|wanted| Some((&wanted.part, wanted.beginning.start()?)));
        let mut starts = self.at(asked);
        let mut found = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let start = match wanted.beginning {
                Beginning::Found(start) => Ok(Some(start)),
                Beginning::At(_) => starts.take(&wanted.part),
            };
            match start {
                Ok(Some(start)) => found.push(Found { wanted, start }),
                Ok(None) => taken_up.leave_open(wanted, NO_START, NO_OFFSET.to_owned()),
                Err(reason) => taken_up.leave_open(wanted, NO_START, reason),
            }
        }
        found
    }

    fn at<'a>(&self, asked: impl Iterator<Item = (&'a Part, Start)>) -> Offsets {
        let mut starts = self.offsets(asked.map(|(part, start)| (part, time(start))));
        // No record at that time or after it: the end.
        let without = |(part, answer): (&Part, &Result<_, _>)| {
            matches!(answer, Ok(None)).then(|| part.clone())
        };
        let late: Vec<Part> = starts.found.iter().filter_map(without).collect();
        let mut ends = self.offsets(late.iter().map(|part| (part, Offset::End)));
        for part in late {
            let end = ends.take(&part);
            starts.found.insert(part, end);
        }
        starts
    }

    /// Commits where this member's partitions begin, and where others do. Gives its own that are
    /// committed.
    fn commit(
        &mut self,
        own: Vec<Found>,
        others: &[(Part, i64)],
        taken_up: &mut TakenUp,
    ) -> Vec<Found> {
        let own_starts = own.iter().map(|found| (&found.wanted.part, found.start));
        let starts: Vec<(&Part, i64)> =
            own_starts.chain(others.iter().map(|(part, start)| (part, *start))).collect();
        let mut refused = HashMap::new();
        for starts in starts.chunks(COMMITTED_AT_ONCE) {
            self.commit_at_once(starts, &mut refused);
        }
        for (part, _) in others {
            self.found.remove(part);
        }
        let mut committed = Vec::with_capacity(own.len());
        for found in own {
            match refused.remove(&found.wanted.part) {
                Some(reason) => taken_up.leave_open(found.wanted, NOT_COMMITTED, reason),
                None => {
                    self.found.remove(&found.wanted.part);
                    committed.push(found);
                }
            }
        }
        committed
    }

    fn commit_at_once(&self, starts: &[(&Part, i64)], refused: &mut HashMap<Part, String>) {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (part, start) in starts {
            if let Err(error) = list.add_partition_offset(&part.0, part.1, Offset::Offset(*start)) {
                refused.insert((*part).clone(), plain(&error));
            }
        }
        match native::commit(&self.client, &list, WAIT) {
            Ok(failed) => {
                let failed = failed.into_iter();
                refused.extend(
                    failed.map(|(topic, number, code)| ((topic, number), code.to_string())),
                );
            }
            Err(code) => {
                refused.extend(starts.iter().map(|(part, _)| ((*part).clone(), code.to_string())));
            }
        }
    }

    /// Two members may have begun a topic at once, each for the other too: reads back what stands
    /// there. Where the other one was later, and greater, this member's own is committed again.
    fn begin_at_the_smaller(&mut self, own: Vec<Found>, taken_up: &mut TakenUp) {
        let mut stands = self.committed_offsets(own.iter().map(|found| &found.wanted.part));
        let mut again = Vec::new();
        for mut found in own {
            match stands.take(&found.wanted.part) {
                Ok(stands) => {
                    found.start = smaller(found.start, stands.map(|(offset, _)| offset));
                    match stands {
                        Some((offset, _)) if offset == found.start => {
                            taken_up.begins.push(Begin::committed(found));
                        }
                        _ => again.push(found),
                    }
                }
                Err(reason) => taken_up.leave_open(found.wanted, NO_COMMITTED, reason),
            }
        }
        let committed = self.commit(again, &[], taken_up);
        taken_up.begins.extend(committed.into_iter().map(Begin::committed));
    }
}

impl Begin {
    fn committed(found: Found) -> Self {
        Self {
            part: found.wanted.part,
            start: found.start,
            committed: Some(found.start),
            epoch: -1,
        }
    }
}

const NO_OFFSET: &str = "the broker tells none";

/// As ListOffsets asks for it; a time before the epoch would mean something else.
fn time(start: Start) -> Offset {
    match start {
        Start::Earliest => Offset::Beginning,
        Start::Latest => Offset::End,
        Start::Time(time) => Offset::Offset(time.max(0)),
    }
}
