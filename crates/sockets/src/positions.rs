//! The positions of the messages of a chunk in their origin.

/// Memory of one run.
const RUN_BYTES: usize = size_of::<(usize, i64)>();

/// The position of each message of a chunk, rising. Messages that stand at one position after the
/// other take nothing beyond the first; each gap takes an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Position of the first message.
    first: i64,
    /// Messages that do not stand right after the one before, each with its position.
    runs: Vec<(usize, i64)>,
    /// The message after the last one noted, and its position if it follows that one directly.
    next: (usize, i64),
}

impl Positions {
    /// Makes the positions of messages that begin at `first` and follow one another, unless
    /// something else is noted.
    pub fn starting_at(first: i64) -> Self {
        Self { first, runs: Vec::new(), next: (0, first) }
    }

    /// Takes note of the position of a message. Messages in between follow one another, up to this
    /// one; of one that was noted already, the first position counts.
    pub fn note(&mut self, message: usize, position: i64) {
        if message < self.next.0 {
            return;
        }
        if message == 0 {
            self.first = position;
        } else if self.at(message) != position {
            self.runs.push((message, position));
        }
        self.next = (message + 1, position.saturating_add(1));
    }

    /// The position of a message.
    pub fn at(&self, message: usize) -> i64 {
        let runs = self.runs.partition_point(|(begins, _)| *begins <= message);
        let (begins, position) = self.runs[..runs].last().copied().unwrap_or((0, self.first));
        position.saturating_add_unsigned((message - begins) as u64)
    }

    /// The first of so many messages that stands at `position` or after it.
    pub(crate) fn first_from(&self, position: i64, messages: usize) -> usize {
        let (mut low, mut high) = (0, messages);
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) < position { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Puts those of `next` after so many messages of its own.
    pub(crate) fn append(&mut self, messages: usize, next: &Self) {
        self.next.0 = self.next.0.min(messages);
        self.note(messages, next.first);
        for (message, position) in &next.runs {
            self.note(messages + message, *position);
        }
    }

    /// Memory that they take, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.runs.capacity() * RUN_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(positions: &[i64]) -> Positions {
        let mut found = Positions::starting_at(positions[0]);
        for (message, position) in positions.iter().enumerate() {
            found.note(message, *position);
        }
        found
    }

    #[test]
    fn each_message_is_found() {
        for (positions, runs) in
            [(&[5][..], 0), (&[5, 6, 7], 0), (&[5, 7, 8, 20], 2), (&[5, 100, 200], 2)]
        {
            let found = of(positions);
            assert_eq!(found.runs.len(), runs, "{positions:?}");
            let each: Vec<_> = (0..positions.len()).map(|message| found.at(message)).collect();
            assert_eq!(each, positions);
            for position in 0..210 {
                let expected = positions.partition_point(|at| *at < position);
                assert_eq!(found.first_from(position, positions.len()), expected, "{position}");
            }
        }
    }

    #[test]
    fn only_gaps_have_to_be_noted() {
        let mut found = Positions::starting_at(5);
        found.note(3, 20);
        found.note(3, 21);
        assert_eq!([0, 1, 2, 3, 4].map(|message| found.at(message)), [5, 6, 7, 20, 21]);
        let mut found = Positions::starting_at(5);
        found.note(0, 9);
        assert_eq!((found.at(0), found.at(1)), (9, 10), "the first message too");
    }

    #[test]
    fn what_is_appended_follows() {
        for (one, other) in [
            (&[5, 6][..], &[7, 8][..]),
            (&[5, 7], &[8, 10]),
            (&[5], &[9]),
            (&[5, 6], &[20, 30, 31]),
        ] {
            let mut found = of(one);
            found.append(one.len(), &of(other));
            assert_eq!(found.runs, of(&[one, other].concat()).runs);
            let unnoted = Positions::starting_at(0);
            let mut found = unnoted.clone();
            found.append(3, &of(other));
            assert_eq!((found.at(2), found.at(3)), (2, other[0]), "none of its own was noted");
        }
    }
}
