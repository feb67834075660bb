//! Whole messages that came together, their frames one behind the other in one piece of memory.

use bytes::Bytes;

/// Frames that are kept of a message that is thrown away, and their size in bytes: an envelope and
/// an id.
const HEAD_FRAMES: usize = 9;
const HEAD_BYTES: usize = 255;

/// Messages in their order, each of one or more frames.
///
/// They cost one allocation for many, where a list of frames for each message costs two or more.
///
/// ```
/// use zafka_zmtp::Messages;
///
/// let messages = Messages::from_frames([&[&b"topic"[..], b"value"][..], &[b"alone"]]);
/// assert_eq!(messages.len(), 2);
/// assert!(messages.frames(0).eq([&b"topic"[..], b"value"]));
/// assert_eq!(messages.size(1), 5);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    bytes: Vec<u8>,
    /// The end of each frame in `bytes`.
    frame_ends: Vec<usize>,
    /// The number of frames up to the end of each message. Frames beyond the last are of a
    /// message that is not whole.
    message_ends: Vec<usize>,
}

impl Messages {
    /// Messages of these frames.
    pub fn from_frames<'a>(messages: impl IntoIterator<Item = &'a [&'a [u8]]>) -> Self {
        let mut all = Self::default();
        for frames in messages {
            for frame in frames {
                all.bytes.extend_from_slice(frame);
                all.frame_ends.push(all.bytes.len());
            }
            all.message_ends.push(all.frame_ends.len());
        }
        all
    }

    /// Counts the messages.
    pub fn len(&self) -> usize {
        self.message_ends.len()
    }

    /// Returns true if there is no message.
    pub fn is_empty(&self) -> bool {
        self.message_ends.is_empty()
    }

    /// Bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that they take.
    pub fn memory(&self) -> usize {
        let ends = self.frame_ends.capacity() + self.message_ends.capacity();
        self.bytes.capacity() + ends * size_of::<usize>()
    }

    /// Gives back memory that is not needed.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.frame_ends.shrink_to_fit();
        self.message_ends.shrink_to_fit();
    }

    /// The frames of message `index`; none beyond the last.
    pub fn frames(&self, index: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        let range = self.range(index);
        range.map(|frame| self.frame(frame))
    }

    /// Bytes of the frames of message `index`; 0 beyond the last.
    pub fn size(&self, index: usize) -> usize {
        let range = self.range(index);
        self.frame_end(range.end) - self.frame_end(range.start)
    }

    /// Takes the messages from `at` on away, and returns them.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let frames = self.frames_before(at);
        let start = self.frame_end(frames);
        let message_ends = self.message_ends.split_off(at.min(self.message_ends.len()));
        Self {
            bytes: self.bytes.split_off(start),
            frame_ends: moved(self.frame_ends.split_off(frames), start),
            message_ends: moved(message_ends, frames),
        }
    }

    /// Frames before message `index`.
    fn frames_before(&self, index: usize) -> usize {
        let before = index.checked_sub(1).map(|before| self.message_ends.get(before));
        before.map_or(0, |end| end.or(self.message_ends.last()).copied().unwrap_or(0))
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.frames_before(index)..self.frames_before(index.saturating_add(1))
    }

    /// The place in `bytes` at which `frame` begins.
    fn frame_end(&self, frame: usize) -> usize {
        frame.checked_sub(1).and_then(|before| self.frame_ends.get(before)).copied().unwrap_or(0)
    }

    fn frame(&self, frame: usize) -> &[u8] {
        let start = self.frame_end(frame);
        let end = self.frame_ends.get(frame).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

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

fn moved(mut ends: Vec<usize>, by: usize) -> Vec<usize> {
    for end in &mut ends {
        *end -= by;
    }
    ends
}

/// Whole messages, and then perhaps the first frames of one, as they stand in one input.
#[derive(Debug, Default)]
pub(crate) struct Gathering(Messages);

impl Gathering {
    /// Input of so many bytes is about to be taken.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.0.bytes.reserve_exact(bytes);
    }

    /// Takes a frame.
    pub(crate) fn push(&mut self, body: &[u8], is_last: bool) {
        self.0.bytes.extend_from_slice(body);
        self.end_frame(is_last);
    }

    /// Takes a frame whose memory may be used.
    pub(crate) fn push_owned(&mut self, body: Vec<u8>, is_last: bool) {
        if self.0.bytes.is_empty() {
            self.0.bytes = body;
            self.end_frame(is_last);
        } else {
            self.push(&body, is_last);
        }
    }

    fn end_frame(&mut self, is_last: bool) {
        self.0.frame_ends.push(self.0.bytes.len());
        if is_last {
            self.0.message_ends.push(self.0.frame_ends.len());
        }
    }

    /// Takes the frames of a message that came in several inputs.
    pub(crate) fn push_message(&mut self, frames: &[Bytes]) {
        self.0.bytes.reserve_exact(frames.iter().map(Bytes::len).sum());
        let lost = usize::from(zafka_planted::is("a-frame-is-lost"));
        for (index, frame) in frames.iter().enumerate().skip(lost) {
            self.push(frame, index + 1 == frames.len());
        }
    }

    /// The messages that are whole. Nothing else is kept.
    pub(crate) fn take_whole(&mut self) -> Option<Messages> {
        let mut messages = std::mem::take(&mut self.0);
        if messages.bytes.capacity() / 2 > messages.bytes.len() {
            // Much of the input was of a message that is not whole.
            messages.shrink();
        }
        (!messages.is_empty()).then_some(messages)
    }

    /// The frames of the message that is not whole.
    pub(crate) fn take_rest(&mut self) -> Vec<Bytes> {
        let first = self.0.message_ends.last().copied().unwrap_or(0);
        let frames = first..self.0.frame_ends.len();
        let rest = frames.map(|frame| Bytes::copy_from_slice(self.0.frame(frame))).collect();
        self.0.bytes.truncate(self.0.frame_end(first));
        self.0.frame_ends.truncate(first);
        rest
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
            let sizes = (0..rest.len()).map(|index| rest.size(index)).sum::<usize>();
            assert_eq!(sizes, rest.bytes());
        }
        let messages = Messages::from_frames(texts);
        assert_eq!((messages.frames(4).len(), messages.size(4)), (0, 0));
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
        gathering.push_owned(b"alone".to_vec(), true);
        gathering.push_owned(b"more".to_vec(), true);
        let both: [&[&[u8]]; 2] = [&[b"alone"], &[b"more"]];
        assert_eq!(gathering.take_whole(), Some(Messages::from_frames(both)));
    }
}
