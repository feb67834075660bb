//! Messages that are not taken for now, since their partition has as much under way as it may, and
//! those that their senders sent after them. Pure.
//!
//! A sender waits as a whole: its messages after the first that has to wait stay behind that one,
//! so that they keep their order. Senders continue in the order in which they began to wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use zafka_kafka::produce::PartitionIndex;

/// A sender by its number.
type SenderId = u64;

/// The reason why the first message of a sender waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A partition; any of the topic if it `is_for_any`.
    Partition { index: PartitionIndex, topic: Arc<str>, is_for_any: bool },
    /// The answers to earlier ones of this sender.
    Answers,
}

impl Wait {
    fn ends_with(&self, opened: PartitionIndex) -> bool {
        let Self::Partition { index, is_for_any, .. } = self else { return false };
        let is_of_topic = index.topic == opened.topic;
        match (index.partition, opened.partition) {
            // Unknown topics share one share.
            (None, None) => true,
            (Some(this), Some(other)) => is_of_topic && (*is_for_any || this == other),
            _ => false,
        }
    }

    /// Returns the name of the full partition: unknown topics count as one.
    fn name(&self) -> WaitName {
        match self {
            Self::Answers => WaitName::Answers,
            Self::Partition { index, topic, .. } => match index.partition {
                Some(partition) => WaitName::Partition(Arc::clone(topic), partition),
                None => WaitName::Unknown,
            },
        }
    }
}

/// The name of something that senders wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WaitName {
    /// A partition of a topic.
    Partition(Arc<str>, usize),
    /// Topics that are not known.
    Unknown,
    /// Answers to earlier messages.
    Answers,
}

/// Senders that wait for one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) senders: usize,
    /// Time since which the first of them waits, in ms since the epoch.
    pub(crate) since: i64,
}

/// Everything that senders wait for.
pub(crate) type Waits = BTreeMap<WaitName, Waiting>;

/// The senders that wait. `T` is a group of messages of a sender that came together.
#[derive(Debug)]
pub(super) struct Parked<T> {
    senders: HashMap<SenderId, VecDeque<T>>,
    waiting: VecDeque<(Wait, SenderId)>,
    /// Senders that may continue, each with the thing it waited for; none if that was memory alone.
    ready: VecDeque<(Option<Wait>, SenderId)>,
    /// The sender whose first group was taken, until its outcome is known.
    taken: Option<SenderId>,
    waits: Waits,
    has_changed: bool,
}

impl<T> Parked<T> {
    pub(super) fn new() -> Self {
        Self {
            senders: HashMap::new(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            taken: None,
            waits: Waits::new(),
            has_changed: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Returns true if a sender waits.
    pub(super) fn holds(&self, sender: SenderId) -> bool {
        !self.senders.is_empty() && self.senders.contains_key(&sender)
    }

    /// Puts messages behind those of their sender that wait.
    pub(super) fn put_behind(&mut self, sender: SenderId, item: T) {
        self.senders.entry(sender).or_default().push_back(item);
    }

    /// Parks messages that cannot be taken for now, before all others of their sender. They wait
    /// for memory alone if `wait` is `None`. A sender that continued and has to wait again keeps
    /// its turn.
    pub(super) fn park(&mut self, sender: SenderId, item: T, wait: Option<Wait>, now_ms: i64) {
        self.senders.entry(sender).or_default().push_front(item);
        let keeps_turn = self.taken.take_if(|taken| *taken == sender).is_some();
        match wait {
            Some(wait) if keeps_turn => {
                self.count(&wait, now_ms);
                self.waiting.push_front((wait, sender));
            }
            Some(wait) => self.wait(wait, sender, now_ms),
            None => self.ready.push_back((None, sender)),
        }
    }

    fn wait(&mut self, wait: Wait, sender: SenderId, now_ms: i64) {
        self.count(&wait, now_ms);
        self.waiting.push_back((wait, sender));
    }

    fn count(&mut self, wait: &Wait, now_ms: i64) {
        let waiting = self.waits.entry(wait.name());
        waiting.or_insert(Waiting { senders: 0, since: now_ms }).senders += 1;
        self.has_changed = true;
    }

    /// Takes note that a partition takes more again.
    pub(super) fn open(&mut self, index: PartitionIndex) {
        self.end_waits(|wait, _| wait.ends_with(index));
    }

    /// Takes note that a sender waits for no answer to an earlier message.
    pub(super) fn answered(&mut self, sender: SenderId) {
        if !self.holds(sender) {
            return;
        }
        self.end_waits(|wait, waiting| *wait == Wait::Answers && waiting == sender);
    }

    /// Takes note that all partitions take more.
    pub(super) fn open_all(&mut self) {
        self.end_waits(|_, _| true);
    }

    fn end_waits(&mut self, ends: impl Fn(&Wait, SenderId) -> bool) {
        if self.waiting.is_empty() {
            return;
        }
        let mut left = VecDeque::new();
        for (wait, sender) in std::mem::take(&mut self.waiting) {
            if ends(&wait, sender) {
                self.forget(&wait);
                self.ready.push_back((Some(wait), sender));
            } else {
                left.push_back((wait, sender));
            }
        }
        self.waiting = left;
    }

    fn forget(&mut self, wait: &Wait) {
        let name = wait.name();
        if let Some(waiting) = self.waits.get_mut(&name) {
            waiting.senders -= 1;
            if waiting.senders == 0 {
                self.waits.remove(&name);
            }
            self.has_changed = true;
        }
    }

    /// Returns the next messages that may continue: the first of a sender. Senders whose partition
    /// is full again wait once more.
    pub(super) fn next(
        &mut self,
        is_full: impl Fn(PartitionIndex) -> bool,
        now_ms: i64,
    ) -> Option<&T> {
        loop {
            match self.ready.front()? {
                (Some(Wait::Partition { index, is_for_any: false, .. }), _) if is_full(*index) => {}
                (_, sender) => return self.senders.get(sender)?.front(),
            }
            if let Some((Some(wait), sender)) = self.ready.pop_front() {
                self.wait(wait, sender, now_ms);
            }
        }
    }

    /// Takes the messages that [`Self::next`] has shown. Their outcome must be reported by
    /// [`Self::park`] or [`Self::go_on`].
    pub(super) fn take(&mut self) -> Option<(SenderId, T)> {
        let (_, sender) = self.ready.pop_front()?;
        self.taken = Some(sender);
        Some((sender, self.senders.get_mut(&sender)?.pop_front()?))
    }

    /// Takes note that the first messages of a sender were taken. Returns true if it waits no more;
    /// otherwise it is the next.
    pub(super) fn go_on(&mut self, sender: SenderId) -> bool {
        self.taken = None;
        if self.senders.get(&sender).is_some_and(|items| !items.is_empty()) {
            self.ready.push_front((None, sender));
            return false;
        }
        self.senders.remove(&sender);
        true
    }

    /// Takes all messages that wait, in the order of each sender.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.has_changed |= !self.waits.is_empty();
        self.waits.clear();
        self.waiting.clear();
        self.ready.clear();
        self.taken = None;
        self.senders.drain().flat_map(|(_, items)| items).collect()
    }

    /// Returns the waits, if they have changed since the last call.
    pub(super) fn poll_waits(&mut self) -> Option<&Waits> {
        std::mem::take(&mut self.has_changed).then_some(&self.waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(partition: Option<usize>, is_for_any: bool) -> Wait {
        Wait::Partition { index: index(partition), topic: Arc::from("t"), is_for_any }
    }

    fn index(partition: Option<usize>) -> PartitionIndex {
        PartitionIndex { topic: 3, partition }
    }

    /// Takes all that is ready, as if all of it could be taken.
    fn taken(parked: &mut Parked<&'static str>) -> Vec<&'static str> {
        let mut all = Vec::new();
        while parked.next(|_| false, 0).is_some() {
            let (sender, item) = parked.take().unwrap();
            all.push(item);
            parked.go_on(sender);
        }
        all
    }

    #[test]
    fn what_a_sender_sent_stays_in_its_order() {
        let mut parked = Parked::new();
        assert!(!parked.holds(1));
        parked.park(1, "a1", Some(wait(Some(0), false)), 5);
        assert!(parked.holds(1) && !parked.holds(2), "another sender goes on");
        parked.put_behind(1, "a2");
        assert_eq!(parked.next(|_| false, 5), None);
        parked.open(index(Some(0)));
        assert_eq!(parked.next(|_| false, 5), Some(&"a1"));
        assert_eq!(parked.take(), Some((1, "a1")));
        // It is taken in part.
        parked.park(1, "rest of a1", Some(wait(Some(0), false)), 6);
        parked.put_behind(1, "a3");
        parked.open(index(Some(0)));
        assert_eq!(taken(&mut parked), ["rest of a1", "a2", "a3"]);
        assert!(parked.is_empty() && !parked.holds(1));
    }

    #[test]
    fn a_sender_has_all_of_its_turn() {
        let mut parked = Parked::new();
        parked.park(1, "a1", Some(wait(Some(0), false)), 0);
        parked.put_behind(1, "a2");
        parked.put_behind(1, "a3");
        parked.park(2, "b1", Some(wait(Some(0), false)), 0);
        parked.open(index(Some(0)));
        assert_eq!(parked.take(), Some((1, "a1")));
        assert!(!parked.go_on(1));
        assert_eq!(parked.take(), Some((1, "a2")));
        parked.park(1, "rest of a2", Some(wait(Some(0), false)), 1);
        assert_eq!(parked.next(|_| true, 1), None, "b1 found it full");
        parked.open(index(Some(0)));
        assert_eq!(taken(&mut parked), ["rest of a2", "a3", "b1"]);
    }

    #[test]
    fn each_waits_for_what_it_needs() {
        for (waits, opened, goes_on) in [
            (wait(Some(0), false), Some(0), true),
            (wait(Some(0), false), Some(1), false),
            (wait(Some(0), true), Some(1), true),
            (wait(Some(0), true), None, false),
            (wait(None, false), None, true),
            (wait(None, true), Some(1), false),
        ] {
            let place = format!("{waits:?} {opened:?}");
            let mut parked = Parked::new();
            parked.park(1, "a", Some(waits), 0);
            let other_topic = PartitionIndex { topic: 4, partition: opened };
            if opened.is_some() {
                parked.open(other_topic);
                assert_eq!(parked.next(|_| false, 0), None, "{place}");
            }
            parked.open(index(opened));
            assert_eq!(parked.next(|_| false, 0).is_some(), goes_on, "{place}");
        }
        // Unknown topics count as one.
        let mut parked = Parked::new();
        parked.park(1, "a", Some(wait(None, false)), 0);
        parked.open(PartitionIndex { topic: 9, partition: None });
        assert_eq!(taken(&mut parked), ["a"]);
    }

    #[test]
    fn senders_go_on_in_turn_and_those_that_find_it_full_keep_theirs() {
        let mut parked = Parked::new();
        for (sender, item) in [(1, "a"), (2, "b"), (3, "c")] {
            parked.park(sender, item, Some(wait(Some(0), false)), 7);
        }
        parked.park(4, "any", Some(wait(Some(0), true)), 8);
        assert_eq!(parked.poll_waits().unwrap().len(), 1);
        let waiting = Waiting { senders: 4, since: 7 };
        parked.has_changed = true;
        assert_eq!(
            parked.poll_waits().unwrap().get(&WaitName::Partition(Arc::from("t"), 0)).copied(),
            Some(waiting)
        );
        assert_eq!(parked.poll_waits(), None);
        parked.open(index(Some(0)));
        assert!(parked.next(|_| false, 9).is_some());
        assert_eq!(parked.take(), Some((1, "a")));
        assert!(parked.go_on(1));
        // It is full again; the one for any partition is next.
        assert_eq!(parked.next(|_| true, 10), Some(&"any"));
        assert_eq!(parked.take(), Some((4, "any")));
        parked.go_on(4);
        assert_eq!(parked.next(|_| true, 10), None);
        let waits = parked.poll_waits().unwrap();
        assert_eq!(waits.values().collect::<Vec<_>>(), [&Waiting { senders: 2, since: 10 }]);
        parked.open(index(Some(0)));
        assert_eq!(taken(&mut parked), ["b", "c"]);
        assert!(parked.poll_waits().unwrap().is_empty());
    }

    #[test]
    fn one_that_waits_for_answers_goes_on_with_its_own() {
        let mut parked = Parked::new();
        parked.park(1, "a", Some(Wait::Answers), 0);
        parked.park(2, "b", Some(Wait::Answers), 0);
        parked.open(index(Some(0)));
        parked.open(index(None));
        assert_eq!(parked.next(|_| false, 0), None);
        parked.answered(2);
        assert_eq!(taken(&mut parked), ["b"]);
        assert!(parked.holds(1));
    }

    #[test]
    fn all_go_on_if_no_partition_is_known_any_more() {
        let mut parked = Parked::new();
        parked.park(1, "a", Some(wait(Some(0), false)), 0);
        parked.park(2, "b", Some(wait(None, false)), 0);
        parked.open_all();
        assert_eq!(taken(&mut parked), ["a", "b"]);
    }

    #[test]
    fn nothing_is_left_of_what_is_taken_at_the_end() {
        let mut parked = Parked::new();
        parked.park(1, "a1", Some(wait(Some(0), false)), 0);
        parked.put_behind(1, "a2");
        parked.park(2, "b1", None, 0);
        let mut all = parked.take_all();
        all.sort_unstable();
        assert_eq!(all, ["a1", "a2", "b1"]);
        assert!(parked.is_empty() && parked.next(|_| false, 0).is_none());
        assert!(parked.poll_waits().unwrap().is_empty());
    }
}
