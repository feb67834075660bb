//! The partition that a record goes to.

/// Positive as the Java client makes it: the sign is cut off.
const POSITIVE: u32 = 0x7fff_ffff;

/// Returns the partition of a key among `count` (at least one), as the Java client's default does.
pub(super) fn of_key(key: &[u8], count: u32) -> u32 {
    let count = count.max(1);
    let further = u32::from(zafka_planted::is("keys-go-one-partition-further"));
    ((murmur2(key) & POSITIVE) % count + further) % count
}

/// MurmurHash2 with the seed of the Java client (`Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    let mut hash = words.iter().fold(SEED ^ length, |hash, word| {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash.wrapping_mul(M) ^ k.wrapping_mul(M)
    });
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition for records without a key: one for a batch, then another.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    /// The partition, and which batch of it this is.
    stuck: Option<(u32, u64)>,
}

impl Sticky {
    /// Chooses the partition for the next record among `count`. `batch` returns the batch that a
    /// partition fills, and whether its leader answers; `choice` is any number.
    pub(super) fn next(
        &mut self,
        count: u32,
        batch: impl Fn(u32) -> (u64, Answers),
        choice: impl FnOnce() -> u64,
    ) -> Option<u32> {
        if let Some((stuck, _)) = self.stuck
            && self.sticks_to(stuck, &batch)
        {
            return Some(stuck);
        }
        if count == 0 {
            return None;
        }
        let begin = choice() % u64::from(count);
        let from = |place: u32| {
            u32::try_from((begin + u64::from(place)) % u64::from(count)).unwrap_or_default()
        };
        let of_rank = |rank: Answers| (0..count).map(from).find(|at| batch(*at).1 >= rank);
        let ranks = [Answers::Yes, Answers::Full, Answers::Failing, Answers::NoLeader];
        let chosen = ranks.into_iter().find_map(of_rank);
        let chosen = chosen.unwrap_or_else(|| from(0));
        self.stuck = Some((chosen, batch(chosen).0));
        Some(chosen)
    }

    /// Returns true if the next record goes to this partition too, as [`Self::next`] says, without
    /// a choice.
    #[inline]
    pub(super) fn sticks_to(&self, partition: u32, batch: impl Fn(u32) -> (u64, Answers)) -> bool {
        self.stuck
            .is_some_and(|(stuck, of)| stuck == partition && batch(stuck) == (of, Answers::Yes))
    }
}

/// The state of a partition's leader, from the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answers {
    /// It does not answer, and as much is under way for it as may be.
    Never,
    /// There is no leader.
    NoLeader,
    /// Its last answer was none, or an error.
    Failing,
    /// It answers as far as is known, but as much is under way for it as may be: worth a wait.
    Full,
    /// It answers as far as is known.
    Yes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_the_java_client_sends_them() {
        // From librdkafka's tests against Java's results.
        for (key, hash) in [
            ("kafka", 0xd067_cf64),
            ("giberish123456789", 0x8f55_2b0c),
            ("1234", 0x9fc9_7b14),
            ("234", 0xe7c0_09ca),
            ("34", 0x8739_30da),
            ("4", 0x5a4b_5ca1),
            ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c),
            ("reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62_b377),
            ("eAmbleWillBeRemoved,ThePrePartThatIs", 0xe0e4_e09e),
            ("AmbleWillBeRemoved,ThePrePartThatIs", 0x62b8_b43f),
            ("", 0x106e_08d9),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key:?}");
        }
        assert_eq!(of_key(b"kafka", 10), (0xd067_cf64_u32 & POSITIVE) % 10);
        // Bytes of 128 and more count as they are.
        assert_eq!(murmur2(&[0xff, 0x80, 0xfe]), murmur2(&[255, 128, 254]));
    }

    #[test]
    fn without_a_key_one_partition_is_filled_and_then_another() {
        let mut sticky = Sticky::default();
        let served = |_: u32| (0, Answers::Yes);
        assert!(!sticky.sticks_to(2, served), "nothing was chosen");
        assert_eq!(sticky.next(4, served, || 6), Some(2));
        assert!(sticky.sticks_to(2, served) && !sticky.sticks_to(1, served));
        assert_eq!(sticky.next(4, served, || panic!("it sticks")), Some(2));
        // The batch was sent.
        let next_batch = |at: u32| (u64::from(at == 2), Answers::Yes);
        assert!(!sticky.sticks_to(2, next_batch));
        assert_eq!(sticky.next(4, next_batch, || 3), Some(3));
        assert_eq!(sticky.next(0, |_| (9, Answers::Yes), || 3), None);
    }

    #[test]
    fn leaders_that_answer_come_first() {
        let answers = |failing: &'static [u32], absent: &'static [u32]| {
            move |at: u32| match at {
                at if failing.contains(&at) => (0, Answers::Failing),
                at if absent.contains(&at) => (0, Answers::NoLeader),
                _ => (0, Answers::Yes),
            }
        };
        for (failing, absent, chosen) in
            [(&[0, 1][..], &[][..], 2), (&[1], &[0, 2], 1), (&[], &[0, 1, 2], 0), (&[], &[0], 1)]
        {
            let mut sticky = Sticky::default();
            let next = sticky.next(3, answers(failing, absent), || 0);
            assert_eq!(next, Some(chosen), "{failing:?} {absent:?}");
        }
        // One that answers is worth a wait, unlike one that does not.
        for (states, chosen) in [
            ([Answers::Failing, Answers::NoLeader, Answers::Full], 2),
            ([Answers::Never, Answers::Full, Answers::Yes], 2),
            ([Answers::Never, Answers::Never, Answers::NoLeader], 2),
            ([Answers::Never; 3], 0),
        ] {
            let state = |at: u32| (0, usize::try_from(at).map_or(Answers::Never, |at| states[at]));
            assert_eq!(Sticky::default().next(3, state, || 0), Some(chosen), "{states:?}");
        }
        // One that stops answering is left at once.
        let mut sticky = Sticky::default();
        assert_eq!(sticky.next(2, answers(&[], &[]), || 0), Some(0));
        assert!(!sticky.sticks_to(0, answers(&[0], &[])));
        assert_eq!(sticky.next(2, answers(&[0], &[]), || 0), Some(1));
    }
}
