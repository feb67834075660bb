//! Messages that are not taken for now, since their partition has as much under way as it may, and
//! those that their senders sent after them. Pure.
//!
//! A sender waits as a whole: its messages after the first that has to wait stay behind that one,
//! so that they keep their order. Senders continue in the order in which they began to wait, and
//! keep their turn until nothing of them waits any more. Those that continue for a partition are
//! overtaken by nobody there. A sender that names itself has one line for all its connections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use zafka_kafka::produce::PartitionIndex;

use super::shares::Shares;

/// A connection of a sender by its number.
type SenderId = u64;

/// The number of a line; one with a lower number began to wait earlier.
type LineNumber = u64;

/// The sender of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) sender: SenderId,
    /// The same for all connections of a sender that names itself.
    pub(super) name: Option<Arc<[u8]>>,
}

/// The reason why the first message of a sender waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A partition; any of the topic if it `is_for_any`.
    Partition { index: PartitionIndex, topic: Arc<str>, is_for_any: bool },
    /// The answers to earlier ones of this sender.
    Answers,
}

impl Wait {
    /// Returns the only partition that it is for.
    fn only(&self) -> Option<PartitionIndex> {
        match self {
            Self::Partition { index, is_for_any: false, .. } => Some(*index),
            Self::Partition { .. } | Self::Answers => None,
        }
    }

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
    lines: BTreeMap<LineNumber, ParkedLine<T>>,
    next_turn: LineNumber,
    /// The line of each sender, and the number of its items there.
    senders: HashMap<SenderId, (LineNumber, usize)>,
    names: HashMap<Arc<[u8]>, LineNumber>,
    /// Lines whose first messages have to wait, with their sender.
    waiting: BTreeMap<LineNumber, (Wait, SenderId)>,
    /// Lines that may continue, each with the thing it waited for; none if that was memory alone.
    ready: BTreeMap<LineNumber, Option<Wait>>,
    /// The number of lines that may continue and have waited for a partition.
    due: BTreeMap<PartitionIndex, usize>,
    /// The line that is the next.
    chosen: Option<LineNumber>,
    /// The line whose first messages were taken, until their outcome is known.
    taken: Option<(LineNumber, SenderId)>,
    waits: Waits,
    has_changed: bool,
}

/// The messages of one sender that wait, in their order.
#[derive(Debug)]
struct ParkedLine<T> {
    items: VecDeque<(SenderId, T)>,
    name: Option<Arc<[u8]>>,
    /// The partition that it has waited for last.
    waited_for: Option<PartitionIndex>,
}

impl<T> Parked<T> {
    pub(super) fn new() -> Self {
        Self {
            lines: BTreeMap::new(),
            next_turn: 0,
            senders: HashMap::new(),
            names: HashMap::new(),
            waiting: BTreeMap::new(),
            ready: BTreeMap::new(),
            due: BTreeMap::new(),
            chosen: None,
            taken: None,
            waits: Waits::new(),
            has_changed: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns true if messages wait that are to be taken before others of this sender.
    pub(super) fn holds(&self, origin: &Origin) -> bool {
        self.turn_of(origin).is_some() && !zafka_planted::is("overtakes-what-waits")
    }

    fn turn_of(&self, Origin { sender, name }: &Origin) -> Option<LineNumber> {
        let of_name = || self.names.get(name.as_ref()?).copied();
        self.senders.get(sender).map(|(turn, _)| *turn).or_else(of_name)
    }

    /// Returns what a message for a partition, or for any of its topic, has to wait for, if it has
    /// to: the partition is full, or others continue for this very one.
    #[inline]
    pub(super) fn wait_for(
        &self,
        index: PartitionIndex,
        topic: &str,
        is_for_any: bool,
        shares: &Shares,
    ) -> Option<Wait> {
        let has_to_wait = shares.is_full(index) || (self.is_due(index) && !is_for_any);
        has_to_wait.then(|| Wait::Partition { index, topic: Arc::from(topic), is_for_any })
    }

    /// Returns true if senders that waited for a partition continue now. A message for it goes
    /// behind them, unless it has waited itself.
    fn is_due(&self, index: PartitionIndex) -> bool {
        if self.due.is_empty() || self.taken.is_some() {
            return false;
        }
        // One may have waited since before its partition was known.
        let unknown = PartitionIndex { partition: None, ..index };
        self.due.contains_key(&index) || self.due.contains_key(&unknown)
    }

    /// Puts messages behind those of their sender that wait.
    pub(super) fn put_behind(&mut self, origin: &Origin, item: T) {
        let Some(turn) = self.turn_of(origin) else { return };
        if let Some(line) = self.lines.get_mut(&turn) {
            line.items.push_back((origin.sender, item));
            self.senders.entry(origin.sender).or_insert((turn, 0)).1 += 1;
        }
    }

    /// Parks messages that cannot be taken for now, before all others of their sender. They wait
    /// for memory alone if `wait` is `None`. A sender that continued and has to wait again keeps
    /// its turn.
    pub(super) fn park(&mut self, origin: &Origin, item: T, wait: Option<Wait>, now_ms: i64) {
        let Origin { sender, name } = origin;
        let turn = match self.taken.take().map(|(turn, _)| turn).or_else(|| self.turn_of(origin)) {
            Some(turn) => turn,
            None => {
                self.next_turn += 1;
                if let Some(name) = name {
                    self.names.insert(Arc::clone(name), self.next_turn);
                }
                self.next_turn
            }
        };
        let new = || ParkedLine { items: VecDeque::new(), name: name.clone(), waited_for: None };
        self.lines.entry(turn).or_insert_with(new).items.push_front((*sender, item));
        self.senders.entry(*sender).or_insert((turn, 0)).1 += 1;
        match wait {
            Some(wait) => self.wait(turn, wait, *sender, now_ms),
            None => self.enter_ready(turn, None),
        }
    }

    /// Parks messages that have to wait for this, as [`Self::park`] does. Those whose partition is
    /// not full only stand behind others: they may continue once it is their turn.
    pub(super) fn park_for(
        &mut self,
        origin: &Origin,
        item: T,
        wait: Wait,
        shares: &Shares,
        now_ms: i64,
    ) {
        let open = wait.only().filter(|index| !shares.is_full(*index));
        self.park(origin, item, Some(wait), now_ms);
        if let Some(index) = open {
            self.open(index);
        }
    }

    fn wait(&mut self, turn: LineNumber, wait: Wait, sender: SenderId, now_ms: i64) {
        let waiting = self.waits.entry(wait.name());
        waiting.or_insert(Waiting { senders: 0, since: now_ms }).senders += 1;
        self.has_changed = true;
        self.waiting.insert(turn, (wait, sender));
    }

    /// Takes note that a partition takes more again.
    pub(super) fn open(&mut self, index: PartitionIndex) {
        self.end_waits(|wait, _| wait.ends_with(index));
    }

    /// Takes note that a sender waits for no answer to an earlier message.
    pub(super) fn answered(&mut self, sender: SenderId) {
        if !self.senders.contains_key(&sender) {
            return;
        }
        self.end_waits(|wait, waiting| *wait == Wait::Answers && waiting == sender);
    }

    /// Takes note that all partitions take more.
    pub(super) fn open_all(&mut self) {
        self.end_waits(|_, _| true);
        // Their names are others' from now on.
        self.ready.values_mut().for_each(|wait| *wait = None);
        self.lines.values_mut().for_each(|line| line.waited_for = None);
        self.due.clear();
    }

    /// Takes note that more topics are known: what waits with those that are not may be for one.
    pub(super) fn topics_known(&mut self) {
        let is_unknown = |wait: &Wait| {
            matches!(wait, Wait::Partition { index: PartitionIndex { partition: None, .. }, .. })
        };
        self.end_waits(|wait, _| is_unknown(wait));
        // They are asked again, whether there is room for unknown topics or not.
        for wait in self.ready.values_mut() {
            wait.take_if(|wait| is_unknown(wait));
        }
    }

    fn end_waits(&mut self, ends: impl Fn(&Wait, SenderId) -> bool) {
        if self.waiting.is_empty() {
            return;
        }
        let ended = self.waiting.iter().filter(|(_, (wait, sender))| ends(wait, *sender));
        let ended: Vec<LineNumber> = ended.map(|(turn, _)| *turn).collect();
        for turn in ended {
            let Some((wait, _)) = self.waiting.remove(&turn) else { continue };
            self.forget(&wait);
            self.enter_ready(turn, Some(wait));
        }
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
            let (&turn, wait) = self.ready.first_key_value()?;
            if !wait.as_ref().and_then(Wait::only).is_some_and(&is_full) {
                self.chosen = Some(turn);
                return self.lines.get(&turn)?.items.front().map(|(_, item)| item);
            }
            let sender = self.lines.get(&turn)?.items.front()?.0;
            if let Some(wait) = self.leave_ready(turn)? {
                self.wait(turn, wait, sender, now_ms);
            }
        }
    }

    fn enter_ready(&mut self, turn: LineNumber, wait: Option<Wait>) {
        let Some(line) = self.lines.get_mut(&turn) else { return };
        line.waited_for = wait.as_ref().and_then(Wait::only).or(line.waited_for);
        if let Some(index) = line.waited_for {
            *self.due.entry(index).or_default() += 1;
        }
        self.ready.insert(turn, wait);
    }

    fn leave_ready(&mut self, turn: LineNumber) -> Option<Option<Wait>> {
        let wait = self.ready.remove(&turn)?;
        if let Some(index) = self.lines.get(&turn).and_then(|line| line.waited_for)
            && let Some(count) = self.due.get_mut(&index)
        {
            *count -= 1;
            if *count == 0 {
                self.due.remove(&index);
            }
        }
        Some(wait)
    }

    /// Takes the messages that [`Self::next`] has shown. Their outcome must be reported by
    /// [`Self::park`] or [`Self::go_on`].
    pub(super) fn take(&mut self) -> Option<T> {
        let turn = self.chosen.take()?;
        self.leave_ready(turn)?;
        let (sender, item) = self.lines.get_mut(&turn)?.items.pop_front()?;
        if let Some((_, count)) = self.senders.get_mut(&sender) {
            *count -= 1;
        }
        self.taken = Some((turn, sender));
        Some(item)
    }

    /// Takes note that the messages were taken whole; those behind them are the next. Returns true
    /// if nothing of their connection waits any more.
    pub(super) fn go_on(&mut self) -> bool {
        let Some((turn, sender)) = self.taken.take() else { return false };
        let is_last = self.senders.get(&sender).is_none_or(|(_, count)| *count == 0);
        if is_last {
            self.senders.remove(&sender);
        }
        if self.lines.get(&turn).is_some_and(|line| !line.items.is_empty()) {
            self.enter_ready(turn, None);
        } else if let Some(ParkedLine { name: Some(name), .. }) = self.lines.remove(&turn) {
            self.names.remove(&name);
        }
        is_last
    }

    /// Takes all messages that wait, in the order of each sender.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        let has_changed = self.has_changed || !self.waits.is_empty();
        let all = std::mem::replace(self, Self { has_changed, ..Self::new() });
        all.lines.into_values().flat_map(|line| line.items).map(|(_, item)| item).collect()
    }

    /// Returns the waits, if they have changed since the last call.
    pub(super) fn poll_waits(&mut self) -> Option<&Waits> {
        std::mem::take(&mut self.has_changed).then_some(&self.waits)
    }
}

#[cfg(test)]
mod tests;
