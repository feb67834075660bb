//! Partitions on their way from the group's word to the first record: where they begin is being
//! looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Part;
use crate::config::Start;
use crate::lookup::{Ask, BACKOFF, Begin, Beginning, Known, Open, StillWanted, Wanted};

/// What came with one word of the group. Dropped, it ends the look-up.
pub(super) struct TakeUp {
    id: u64,
    /// Those whose begin is not known yet, and why, once that was told.
    open: BTreeMap<Part, Option<String>>,
    backoff: Duration,
    answered: bool,
    /// The same as `open`, for the thread that looks them up.
    still: Arc<StillWanted>,
    known: Arc<Known>,
}

impl TakeUp {
    /// Partitions that have no committed offset begin at `start` if they are among the first, and
    /// their topic has not begun in the group; else at their earliest offset.
    /// Those `kept` go on where they were.
    pub(super) fn new(
        id: u64,
        parts: Vec<Part>,
        start: Start,
        known: Known,
        kept: &HashMap<Part, i64>,
    ) -> (Self, Ask) {
        let take_up = Self {
            id,
            open: parts.iter().map(|part| (part.clone(), None)).collect(),
            backoff: BACKOFF.0,
            answered: false,
            still: StillWanted::new(parts.iter().cloned()),
            known: Arc::new(known),
        };
        let first = &take_up.known.first;
        let wanted = |part: Part| {
            let start = if first.contains(&part) { start } else { Start::Earliest };
            let beginning =
                kept.get(&part).map_or(Beginning::At(start), |kept| Beginning::Found(*kept));
            Wanted { part, beginning }
        };
        let ask = take_up.ask(parts.into_iter().map(wanted).collect(), Instant::now());
        (take_up, ask)
    }

    fn ask(&self, wanted: Vec<Wanted>, due: Instant) -> Ask {
        let (known, still) = (Arc::clone(&self.known), Arc::clone(&self.still));
        Ask::TakeUp { id: self.id, wanted, due, known, still }
    }

    /// Takes an answer: those that begin now, and the question for the others that are still
    /// wanted.
    pub(super) fn answer(
        &mut self,
        begins: Vec<Begin>,
        open: Vec<Open>,
    ) -> (Vec<Begin>, Option<Ask>) {
        self.answered = true;
        let begins: Vec<Begin> =
            begins.into_iter().filter(|begin| self.open.contains_key(&begin.part)).collect();
        begins.iter().for_each(|begin| self.forget(&begin.part));
        let mut wanted = Vec::new();
        for open in open {
            if let Some(reason) = self.open.get_mut(&open.wanted.part) {
                *reason = Some(open.to_string());
                wanted.push(open.wanted);
            }
        }
        if wanted.is_empty() {
            return (begins, None);
        }
        (begins, Some(self.ask_later(wanted)))
    }

    /// The question again, for an answer that cannot be used now.
    pub(super) fn postpone(&mut self, begins: Vec<Begin>, open: Vec<Open>) -> Ask {
        let begins = begins.into_iter();
        let found = begins
            .map(|Begin { part, start, .. }| Wanted { part, beginning: Beginning::Found(start) });
        self.ask_later(found.chain(open.into_iter().map(|open| open.wanted)).collect())
    }

    fn ask_later(&mut self, wanted: Vec<Wanted>) -> Ask {
        let ask = self.ask(wanted, Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        ask
    }

    /// Whether there was an answer, be it that nothing begins yet.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Those that are open.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.open.keys()
    }

    /// Forgets a partition that begins, that the group wants back, or that is no more.
    pub(super) fn forget(&mut self, part: &Part) {
        self.open.remove(part);
        self.still.forget(part);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A partition that waits, and why.
    pub(super) fn reason(&self) -> Option<&str> {
        self.open.values().find_map(Option::as_deref)
    }
}

impl Drop for TakeUp {
    fn drop(&mut self) {
        self.still.forget_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::{First, TopicMap};

    fn known(topics: &[(&str, i32)]) -> Known {
        let topics: TopicMap =
            topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect();
        Known { first: First::new(&topics), topics }
    }

    fn part(partition: i32) -> Part {
        ("orders".to_owned(), partition)
    }

    fn begin(partition: i32) -> Begin {
        Begin { part: part(partition), start: 7, committed: Some(7), epoch: 3 }
    }

    fn wanted(ask: &Ask) -> Vec<(i32, Beginning)> {
        let Ask::TakeUp { wanted, .. } = ask else { panic!("{ask:?}") };
        wanted.iter().map(|wanted| (wanted.part.1, wanted.beginning)).collect()
    }

    fn open(partition: i32, found: i64) -> Open {
        let wanted = Wanted { part: part(partition), beginning: Beginning::Found(found) };
        Open::new(wanted, "the start was not committed", "Busy".to_owned())
    }

    #[test]
    fn those_that_came_later_begin_at_the_earliest() {
        let known = known(&[("orders", 1)]);
        let kept = HashMap::from([(part(2), 7)]);
        let (_take_up, ask) =
            TakeUp::new(1, (0..3).map(part).collect(), Start::Latest, known, &kept);
        let expected = [
            (0, Beginning::At(Start::Latest)),
            (1, Beginning::At(Start::Earliest)),
            (2, Beginning::Found(7)),
        ];
        assert_eq!(wanted(&ask), expected);
    }

    #[test]
    fn one_that_stays_open_is_asked_for_until_it_begins() {
        let (mut take_up, _) =
            TakeUp::new(1, (0..3).map(part).collect(), Start::Latest, known(&[]), &HashMap::new());
        assert!(!take_up.is_answered() && take_up.reason().is_none());
        let (begins, ask) = take_up.answer(vec![begin(0)], vec![open(1, 5), open(2, 6)]);
        assert_eq!(begins, [begin(0)]);
        assert_eq!(wanted(&ask.unwrap()), [(1, Beginning::Found(5)), (2, Beginning::Found(6))]);
        assert!(take_up.is_answered());
        assert_eq!(take_up.reason(), Some("orders/1: the start was not committed: Busy"));
        // The group takes it back while it is asked for.
        take_up.forget(&part(1));
        let (begins, ask) = take_up.answer(vec![begin(1)], vec![open(2, 6)]);
        assert_eq!((begins, wanted(&ask.unwrap())), (Vec::new(), vec![(2, Beginning::Found(6))]));
        let (begins, ask) = take_up.answer(vec![begin(2)], Vec::new());
        assert_eq!(begins, [begin(2)]);
        assert!(ask.is_none() && take_up.is_empty());
    }

    #[test]
    fn nobody_asks_for_what_is_forgotten() {
        let parts = vec![part(0), part(1)];
        let (mut take_up, ask) =
            TakeUp::new(1, parts, Start::Earliest, known(&[]), &HashMap::new());
        let Ask::TakeUp { still, .. } = &ask else { panic!("{ask:?}") };
        assert!(still.contains(&part(0)) && still.contains(&part(1)));
        take_up.forget(&part(0));
        assert!(!still.contains(&part(0)) && still.contains(&part(1)));
        drop(take_up);
        assert!(still.is_empty());
    }
}
