//! Whole messages that came together, one behind the other in one piece of memory.

use bytes::Bytes;

use crate::frame::{HEADER_MAX, LONG, MORE, Position, put_header, put_message, split_first};

/// Frames that are kept of a message that is thrown away, and their size in bytes: an envelope and
/// an id.
const HEAD_FRAMES: usize = 9;
const HEAD_BYTES: usize = 255;

/// Messages in their order, each of one or more frames.
///
/// They are kept as they came over the wire, so that many are copied at once, and cost two
/// allocations together.
///
/// ```
/// use zafka_zmtp::Messages;
///
/// let messages = Messages::from_frames([&[&b"topic"[..], b"value"][..], &[b"alone"]]);
/// assert_eq!(messages.len(), 2);
/// assert!(messages.frames(0).eq([&b"topic"[..], b"value"]));
/// assert_eq!(messages.size(1), 5);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// Frames with their headers. Those beyond the last end are of a message that is not whole.
    wire: Vec<u8>,
    /// The beginning of the first message in `wire`.
    start: usize,
    /// The end of each message in `wire`.
    ends: Vec<usize>,
    /// Bytes of the frames of all messages.
    bytes: usize,
    /// No message has more frames.
    most_frames: usize,
}

/// The frames of one message.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    wire: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (_, body, rest) = split_first(self.wire)?;
        self.wire = rest;
        Some(body)
    }
}

impl Messages {
    /// Messages of these frames.
    pub fn from_frames<'a>(messages: impl IntoIterator<Item = &'a [&'a [u8]]>) -> Self {
        let mut all = Self::default();
        for frames in messages {
            put_message(&mut all.wire, frames.iter().copied());
            let bytes = frames.iter().map(|frame| frame.len()).sum();
            all.end_message(all.wire.len(), bytes, frames.len());
        }
        all
    }

    /// Counts the messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there is no message.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A number of frames that no message has more of.
    pub fn most_frames(&self) -> usize {
        self.most_frames
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        self.wire.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// Gives back memory that is not needed.
    pub fn shrink(&mut self) {
        self.wire.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// The memory that the frames were kept in, for something else: what is in it has no meaning.
    pub fn into_memory(self) -> Vec<u8> {
        self.wire
    }

    /// The frames of message `index`; none beyond the last.
    #[inline]
    pub fn frames(&self, index: usize) -> Frames<'_> {
        let end = self.ends.get(index).copied().unwrap_or_default();
        Frames { wire: self.wire.get(self.end_before(index)..end).unwrap_or_default() }
    }

    /// Bytes of the frames of message `index`; 0 beyond the last.
    pub fn size(&self, index: usize) -> usize {
        self.frames(index).map(<[u8]>::len).sum()
    }

    /// Takes the messages from `at` on away, and returns them.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let at = at.min(self.ends.len());
        let start = self.end_before(at);
        let mut ends = self.ends.split_off(at);
        for end in &mut ends {
            *end -= start;
        }
        let (wire, most_frames) = (self.wire.split_off(start), self.most_frames);
        let mut rest = Self { wire, start: 0, ends, bytes: 0, most_frames };
        rest.bytes = (0..rest.len()).map(|index| rest.size(index)).sum();
        self.bytes -= rest.bytes;
        rest
    }

    /// The place in `wire` at which message `index` begins.
    #[inline]
    fn end_before(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(self.start)
    }

    /// Finds the messages at the front of `input` that are whole and within the limits, up to the
    /// first frame that is anything else. Their first byte is to stand at `start` in `wire`.
    /// Returns the bytes that they take.
    fn find(&mut self, input: &[u8], start: usize, limits: Limits) -> usize {
        let mut taken = 0;
        while let Some((size, frames, rest)) = plain_message(input.get(taken..), limits) {
            taken = input.len() - rest;
            self.end_message(start + taken, size, frames);
        }
        taken
    }

    /// A message of so many bytes and frames ends there.
    fn end_message(&mut self, end: usize, bytes: usize, frames: usize) {
        self.ends.push(end);
        self.bytes += bytes;
        self.most_frames = self.most_frames.max(frames);
    }
}

impl PartialEq for Messages {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && (0..self.len()).all(|index| self.frames(index).eq(other.frames(index)))
    }
}

impl Eq for Messages {}

/// A message that was thrown away, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Its first frames, up to the first that has more than 255 bytes; at most nine.
    pub head: Vec<Bytes>,
    /// The number of its frames.
    pub frames: usize,
    /// Their bytes together.
    pub size: u64,
}

/// The most that frames and messages may have to be taken as they stand in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the frames of a message.
    pub(crate) bytes: usize,
    /// Frames of a message.
    pub(crate) frames: usize,
}

/// Whole messages, and then perhaps the first frames of one, as they stand in one input.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    messages: Messages,
    /// Messages that the last input held, and the last block.
    expected: usize,
    expected_in_block: usize,
}

impl Gathering {
    /// Input of so many bytes, all of it boxed, is about to be taken.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.messages.wire.reserve_exact(bytes);
    }

    /// Takes the messages at the front of `input` that are whole and within the limits, up to the
    /// first frame that is anything else. There is no message of which a part was taken before.
    /// Returns whether there was any.
    pub(crate) fn take_plain(&mut self, input: &mut &[u8], limits: Limits) -> bool {
        let Self { messages, expected, .. } = self;
        messages.ends.reserve(Self::at_most(*expected, input));
        let taken = messages.find(input, messages.wire.len(), limits);
        let (plain, rest) = input.split_at(taken);
        messages.wire.extend_from_slice(plain);
        *input = rest;
        taken > 0
    }

    /// As [`Self::take_plain`], of the messages that begin at `start` in `block`: they keep it as
    /// it is, and what stands behind them is left. `None`, and nothing is taken, unless they are at
    /// least half of what it may hold. Nothing else was taken of this input.
    pub(crate) fn take_block(
        &mut self,
        block: &mut Vec<u8>,
        start: usize,
        limits: Limits,
    ) -> Option<Messages> {
        let input = block.get(start..)?;
        // The next block may hold somewhat more.
        let expected = self.expected_in_block + self.expected_in_block / 8;
        let ends = Vec::with_capacity(Self::at_most(expected, input));
        let mut messages = Messages { start, ends, ..Messages::default() };
        let taken = messages.find(input, start, limits);
        if taken == 0 || taken < block.capacity() / 4 {
            return None;
        }
        self.expected_in_block = messages.len();
        let rest = block.split_off(start + taken);
        messages.wire = std::mem::replace(block, rest);
        Some(messages)
    }

    /// As many messages as are expected, if so many fit: one takes two bytes at the least.
    fn at_most(expected: usize, input: &[u8]) -> usize {
        expected.min(input.len() / 2)
    }

    /// Takes a frame.
    pub(crate) fn push(&mut self, body: &[u8], is_last: bool) {
        let position = if is_last { Position::Last } else { Position::More };
        put_header(&mut self.messages.wire, position, body.len());
        self.messages.wire.extend_from_slice(body);
        if is_last {
            self.end_message();
        }
    }

    /// Takes the frames of a message that came in several inputs.
    pub(crate) fn push_message(&mut self, frames: &[Bytes]) {
        let lost = usize::from(zafka_planted::is("a-frame-is-lost"));
        let frames = frames.get(lost..).unwrap_or_default();
        let wire = &mut self.messages.wire;
        wire.reserve_exact(frames.iter().map(|frame| HEADER_MAX + frame.len()).sum());
        put_message(wire, frames.iter().map(|frame| &**frame));
        self.end_message();
    }

    /// The messages that are whole. Nothing else is kept.
    pub(crate) fn take_whole(&mut self) -> Option<Messages> {
        let mut messages = std::mem::take(&mut self.messages);
        self.expected = messages.len();
        if messages.wire.capacity() / 2 > messages.wire.len() {
            // Much of the input was of a message that is not whole.
            messages.wire.shrink_to_fit();
        }
        if messages.ends.capacity() / 2 > messages.ends.len() {
            // There were many more in the input before.
            messages.ends.shrink_to_fit();
        }
        (!messages.is_empty()).then_some(messages)
    }

    /// The frames of the message that is not whole.
    pub(crate) fn take_rest(&mut self) -> Vec<Bytes> {
        let end = self.messages.ends.last().copied().unwrap_or(0);
        let rest = self.rest().map(Bytes::copy_from_slice).collect();
        self.messages.wire.truncate(end);
        rest
    }

    /// The same in place.
    fn rest(&self) -> Frames<'_> {
        let end = self.messages.ends.last().copied().unwrap_or(0);
        Frames { wire: self.messages.wire.get(end..).unwrap_or_default() }
    }

    /// All frames of a message were put behind the last one.
    fn end_message(&mut self) {
        let (bytes, frames) =
            self.rest().fold((0, 0), |(bytes, frames), frame| (bytes + frame.len(), frames + 1));
        self.messages.end_message(self.messages.wire.len(), bytes, frames);
    }
}

/// Bytes and frames of the message that stands at the front of `input`, and what is left behind it;
/// `None` unless it is whole, within the limits, and nothing else.
#[inline]
fn plain_message(input: Option<&[u8]>, limits: Limits) -> Option<(usize, usize, usize)> {
    let (mut input, mut bytes, mut frames) = (input?, 0, 0);
    loop {
        let (flags, body, rest) = split_first(input)?;
        bytes += body.len();
        frames += 1;
        if flags & !(MORE | LONG) != 0 || bytes > limits.bytes || frames > limits.frames {
            return None;
        }
        if flags & MORE == 0 {
            return Some((bytes, frames, rest.len()));
        }
        input = rest;
    }
}

/// The first frames of a message that is thrown away: enough to answer it.
pub(crate) fn head(mut frames: Vec<Bytes>) -> Vec<Bytes> {
    let short = frames.iter().take(HEAD_FRAMES).take_while(|frame| frame.len() <= HEAD_BYTES);
    frames.truncate(short.count());
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(messages: &Messages) -> Vec<Vec<&[u8]>> {
        (0..messages.len()).map(|index| messages.frames(index).collect()).collect()
    }

    #[test]
    fn messages_are_split_between_any_two() {
        let texts: [&[&[u8]]; 4] = [&[b"a", b"bc"], &[b""], &[b"", b"d", b""], &[b"efg"]];
        for at in 0..=5 {
            let mut front = Messages::from_frames(texts);
            let rest = front.split_off(at);
            let (before, after) = texts.split_at(at.min(4));
            assert_eq!((all(&front), all(&rest)), (before.map_vec(), after.map_vec()), "{at}");
            for part in [&front, &rest] {
                let sizes = (0..part.len()).map(|index| part.size(index)).sum::<usize>();
                assert_eq!(sizes, part.bytes());
            }
        }
        let messages = Messages::from_frames(texts);
        assert_eq!((messages.frames(4).count(), messages.size(4)), (0, 0));
        assert_eq!((0..4).map(|index| messages.size(index)).collect::<Vec<_>>(), [3, 0, 1, 3]);
    }

    trait MapVec<'a> {
        fn map_vec(&self) -> Vec<Vec<&'a [u8]>>;
    }

    impl<'a> MapVec<'a> for &[&'a [&'a [u8]]] {
        fn map_vec(&self) -> Vec<Vec<&'a [u8]>> {
            self.iter().map(|frames| frames.to_vec()).collect()
        }
    }

    #[test]
    fn what_is_not_whole_is_taken_apart() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.take_whole(), None);
        gathering.push(b"a", true);
        gathering.push(b"b", false);
        assert_eq!(gathering.take_rest(), [&b"b"[..]]);
        assert_eq!(gathering.take_whole(), Some(Messages::from_frames([&[&b"a"[..]][..]])));
        assert_eq!(gathering.take_whole(), None);
        gathering.push_message(&[Bytes::from_static(b"b"), Bytes::from_static(b"c")]);
        assert!(gathering.take_rest().is_empty());
        assert_eq!(gathering.take_whole(), Some(Messages::from_frames([&[&b"b"[..], b"c"][..]])));
    }

    #[test]
    fn plain_messages_are_taken_up_to_what_is_not() {
        let limits = Limits { bytes: 300, frames: 3 };
        let mut messages: Vec<u8> = Vec::new();
        put_message(&mut messages, [&b"a"[..], b"bc"].into_iter());
        put_message(&mut messages, [&[7; 300][..]].into_iter());
        let of = |frames: &[&[u8]]| {
            let mut bytes = Vec::new();
            put_message(&mut bytes, frames.iter().copied());
            bytes
        };
        let others: [Vec<u8>; 8] = [
            Vec::new(),
            // Not whole: a header, a body, a message.
            vec![0],
            vec![0, 2, b'x'],
            of(&[b"a", b"b"])[..3].to_vec(),
            // A command, and what is none of both.
            b"\x04\x05\x04PONG\x00\x01m".to_vec(),
            vec![0xf8, 0],
            // Over the limits.
            of(&[&[7; 300], b"x"]),
            of(&[b"", b"", b"", b""]),
        ];
        for other in others {
            let bytes = [&*messages, &*other].concat();
            let (mut gathering, mut input) = (Gathering::default(), &*bytes);
            assert!(gathering.take_plain(&mut input, limits));
            assert_eq!(input, &*other);
            assert!(!gathering.take_plain(&mut input, limits), "{other:?}");
            let taken = gathering.take_whole().unwrap();
            assert_eq!(all(&taken), [vec![&b"a"[..], b"bc"], vec![&[7; 300][..]]]);
            assert_eq!((taken.bytes(), taken.most_frames()), (303, 2));
        }
    }
}
