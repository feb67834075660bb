//! Boxes: what goes into one, and what comes out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use curve25519_dalek::MontgomeryPoint;
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use salsa20::cipher::consts::U10;
use salsa20::cipher::generic_array::GenericArray;
use salsa20::cipher::{Block, KeyIvInit, StreamCipherCore, StreamCipherSeekCore};
use salsa20::{SalsaCore, hsalsa};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::keys::{PublicKey, SecretKey};
use crate::error::{Error, printable};
use crate::frame::{self, COMMAND, MORE, Position};

/// Bytes that boxing adds to a frame's body: the command's name, a short nonce, a tag, and the
/// flags.
pub const OVERHEAD: usize = NAME.len() + NONCE_BYTES + TAG_BYTES + 1;

const NAME: &[u8; 8] = b"\x07MESSAGE";
/// Size of a short nonce in bytes.
const NONCE_BYTES: usize = 8;
/// Size of the key of Poly1305 in bytes.
const MAC_KEY_BYTES: usize = 32;
/// Size of a block of Salsa20's key stream in bytes.
const BLOCK_BYTES: usize = 64;
/// Size of what authenticates a box, in bytes.
pub(super) const TAG_BYTES: usize = 16;
/// Flags within a MESSAGE: more frames follow, and (libzmq's) the frame is a command.
const INNER_MORE: u8 = 0b01;
const INNER_COMMAND: u8 = 0b10;

/// A whole nonce: a text that tells what it is for, and a short or a long one of the sender's.
pub(super) fn nonce<const TEXT: usize, const OWN: usize>(
    text: &[u8; TEXT],
    own: &[u8; OWN],
) -> [u8; 24] {
    const { assert!(TEXT + OWN == 24) }
    let mut nonce = [0; 24];
    nonce[..TEXT].copy_from_slice(text);
    nonce[TEXT..].copy_from_slice(own);
    nonce
}

/// The secret that two sides share which know their own secret key and the other's public one
/// (NaCl's `crypto_box_beforenm`).
#[derive(Clone)]
pub(super) struct Shared(Arc<Zeroizing<salsa20::Key>>);

impl Shared {
    pub(super) fn new(theirs: PublicKey, ours: &SecretKey) -> Self {
        let point = MontgomeryPoint(*theirs.as_bytes());
        let secret = Zeroizing::new((ours.to_box().to_scalar() * point).to_bytes());
        let key = hsalsa::<U10>((&*secret).into(), &GenericArray::default());
        Self(Arc::new(Zeroizing::new(key)))
    }

    /// Makes the key of all boxes whose nonces begin with a text.
    fn key(&self, text: &[u8; 16]) -> BoxKey {
        let key = Arc::new(Zeroizing::new(hsalsa::<U10>(&self.0, text.into())));
        BoxKey { key, block: Box::default() }
    }

    /// Appends a box with some parts in it.
    pub(super) fn seal(&self, nonce: &[u8; 24], parts: &[&[u8]], out: &mut Vec<u8>) {
        let (text, own) = halves(nonce);
        self.key(text).seal(own, parts, out);
    }

    /// Opens a box; `None` if it was not made with these keys and this nonce.
    pub(super) fn open(&self, nonce: &[u8; 24], boxed: &[u8]) -> Option<Vec<u8>> {
        let (text, own) = halves(nonce);
        self.key(text).open(own, boxed)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

fn halves(nonce: &[u8; 24]) -> (&[u8; 16], &[u8; NONCE_BYTES]) {
    const NONE: (&[u8; 16], &[u8; NONCE_BYTES]) = (&[0; 16], &[0; NONCE_BYTES]);
    nonce
        .split_first_chunk()
        .and_then(|(text, own)| Some((text, own.first_chunk()?)))
        .unwrap_or(NONE)
}

/// Salsa20, block by block.
type Cipher = SalsaCore<U10>;

/// The key of boxes whose nonces begin with one text: XSalsa20's first step, which depends on
/// nothing else, is made once. What remains for each box is Salsa20 and Poly1305 (NaCl's
/// `crypto_secretbox`).
struct BoxKey {
    key: Arc<Zeroizing<salsa20::Key>>,
    /// The block of the key stream that is in use. It is wiped with the key, not with each box.
    block: Box<Zeroizing<Block<Cipher>>>,
}

impl BoxKey {
    /// Begins a box: the first half of the first block of its key stream is the key of Poly1305,
    /// the second half is for the text's first bytes.
    fn begin(&mut self, nonce: &[u8; NONCE_BYTES]) -> (Cipher, Poly1305) {
        let mut cipher = Cipher::new(&self.key, nonce.into());
        cipher.write_keystream_block(&mut self.block);
        let mac = Poly1305::new(poly1305::Key::from_slice(&self.block[..MAC_KEY_BYTES]));
        (cipher, mac)
    }

    /// Encrypts or decrypts a text, from `place` of the block on that is in use. A text in memory
    /// is shorter than the key stream (2^70 bytes).
    fn apply(&mut self, cipher: &mut Cipher, place: usize, text: &mut [u8]) {
        let begun = text.len().min(BLOCK_BYTES - place);
        let (first, rest) = text.split_at_mut(begun);
        xor(first, &self.block[place..]);
        for part in rest.chunks_mut(BLOCK_BYTES) {
            cipher.write_keystream_block(&mut self.block);
            xor(part, &self.block);
        }
    }

    /// Encrypts a part of a box's text, which has so many bytes before it.
    fn apply_at(&mut self, nonce: &[u8; NONCE_BYTES], before: usize, text: &mut [u8]) {
        let mut cipher = Cipher::new(&self.key, nonce.into());
        let place = MAC_KEY_BYTES + before;
        cipher.set_block_pos((place / BLOCK_BYTES) as u64);
        cipher.write_keystream_block(&mut self.block);
        self.apply(&mut cipher, place % BLOCK_BYTES, text);
    }

    fn seal(&mut self, nonce: &[u8; NONCE_BYTES], parts: &[&[u8]], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; TAG_BYTES]);
        for part in parts {
            out.extend_from_slice(part);
        }
        self.seal_at(nonce, &mut out[start..], &[]);
    }

    /// Makes a box in place of the text that is behind the room for its tag. What is `behind` that
    /// belongs to the box, and is not made yet; the text then ends with a block of the key stream.
    fn seal_at(&mut self, nonce: &[u8; NONCE_BYTES], place: &mut [u8], behind: &[u8]) {
        let (tag, text) = place.split_at_mut(TAG_BYTES);
        let (mut cipher, mut mac) = self.begin(nonce);
        self.apply(&mut cipher, MAC_KEY_BYTES, text);
        if behind.is_empty() {
            tag.copy_from_slice(&mac.compute_unpadded(text));
            return;
        }
        update(&mut mac, text);
        let blocks = behind.chunks_exact(BLOCK_BYTES);
        let last = blocks.remainder();
        for part in blocks {
            cipher.write_keystream_block(&mut self.block);
            xor(&mut self.block, part);
            update(&mut mac, &self.block);
        }
        cipher.write_keystream_block(&mut self.block);
        let end = &mut self.block[..last.len()];
        xor(end, last);
        tag.copy_from_slice(&mac.compute_unpadded(end));
    }

    fn open(&mut self, nonce: &[u8; NONCE_BYTES], boxed: &[u8]) -> Option<Vec<u8>> {
        let (tag, text) = boxed.split_first_chunk::<TAG_BYTES>()?;
        let (mut cipher, mac) = self.begin(nonce);
        // In constant time.
        if !bool::from(mac.compute_unpadded(text).ct_eq(tag)) {
            return None;
        }
        let mut text = text.to_vec();
        self.apply(&mut cipher, MAC_KEY_BYTES, &mut text);
        Some(text)
    }
}

/// Takes a whole number of Poly1305's blocks.
fn update(mac: &mut Poly1305, text: &[u8]) {
    for block in text.chunks_exact(poly1305::BLOCK_SIZE) {
        mac.update(std::slice::from_ref(poly1305::Block::from_slice(block)));
    }
}

fn xor(text: &mut [u8], stream: &[u8]) {
    for (byte, key) in text.iter_mut().zip(stream) {
        *byte ^= key;
    }
}

impl fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxKey")
    }
}

/// The side that sends: the texts of its nonces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    const fn text(self) -> &'static [u8; 16] {
        match self {
            Self::Client => b"CurveZMQMESSAGEC",
            Self::Server => b"CurveZMQMESSAGES",
        }
    }
}

/// Boxes what our side sends once the handshake is done.
#[derive(Debug)]
pub struct Sealer {
    key: BoxKey,
    /// The last short nonce that was used. It counts frames, and does not come to its end within
    /// the life of a machine.
    nonce: u64,
}

impl Sealer {
    pub(super) fn new(shared: &Shared, side: Side, nonce: u64) -> Self {
        Self { key: shared.key(side.text()), nonce }
    }

    /// Appends whole ZMTP frames to `out`, each in a box of its own. To be called in the order of
    /// the wire: a peer takes nonces that rise, with gaps.
    ///
    /// # Errors
    /// Input that is not whole frames; what came before is appended.
    pub fn seal(&mut self, frames: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let mut rest = frames;
        while !rest.is_empty() {
            let Some((flags, body, after)) = frame::split_first(rest) else {
                return Err(Error::malformed("outgoing frames", "the last one is not whole"));
            };
            self.seal_frame(flags, body, out);
            rest = after;
        }
        Ok(())
    }

    /// Appends one frame, which has `flags` of ZMTP framing, in a box, as `seal` does.
    pub fn seal_frame(&mut self, flags: u8, body: &[u8], out: &mut Vec<u8>) {
        self.begin_frame(flags, body, usize::MAX, out);
    }

    /// Appends the beginning of one frame's box, with at most so many bytes of its body, or those
    /// of the key stream's first block. All of the body is read, since a box begins with its tag.
    /// Returns the number of bytes that are left, which [`Self::resume`] makes.
    pub fn begin_frame(&mut self, flags: u8, body: &[u8], most: usize, out: &mut Vec<u8>) -> usize {
        self.nonce += 1;
        let short = self.nonce.to_be_bytes();
        // Unless it is whole, the text (the flags and the body) ends with a block.
        let made = if body.len() <= most { body.len() } else { whole_blocks(most) };
        let (made, behind) = body.split_at(made.min(body.len()));
        out.reserve(OVERHEAD + made.len() + frame::HEADER_MAX);
        frame::put_header(out, Position::Last, OVERHEAD + body.len());
        // The command's name, the short nonce, room for the tag, and the flags.
        let mut head = [0; OVERHEAD];
        let (name, rest) = head.split_at_mut(NAME.len());
        name.copy_from_slice(NAME);
        rest[..NONCE_BYTES].copy_from_slice(&short);
        let more = if flags & MORE == 0 { 0 } else { INNER_MORE };
        let command = if flags & COMMAND == 0 { 0 } else { INNER_COMMAND };
        rest[NONCE_BYTES + TAG_BYTES] = more | command;
        let start = out.len() + NAME.len() + NONCE_BYTES;
        out.extend_from_slice(&head);
        out.extend_from_slice(made);
        self.key.seal_at(&short, &mut out[start..], behind);
        behind.len()
    }

    /// Appends what follows in a box that was begun, with at most so many bytes of its body. `rest`
    /// begins with what is left of the body.
    ///
    /// # Errors
    /// `rest` is shorter than that.
    pub fn resume(
        &mut self,
        begun: &BegunBox,
        rest: &[u8],
        most: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(rest) = rest.get(..begun.body_left()) else {
            return Err(Error::malformed("outgoing frames", "a frame that was begun has no end"));
        };
        out.extend_from_slice(begun.head().get(begun.sent..).unwrap_or_default());
        let start = out.len();
        out.extend_from_slice(&rest[..rest.len().min(most)]);
        // The flags are before the body.
        self.key.apply_at(&begun.nonce(), 1 + begun.body_sent(), &mut out[start..]);
        Ok(())
    }
}

/// The most bytes of a body, up to so many or those of the first block, with which the text of a
/// box that goes on ends with a block of the key stream.
fn whole_blocks(most: usize) -> usize {
    const BEFORE: usize = MAC_KEY_BYTES + 1;
    let place = (BEFORE + most).max(BLOCK_BYTES);
    place - place % BLOCK_BYTES - BEFORE
}

/// A box of which some bytes were sent. The others are made again of the frame's body, so that
/// nothing of the box has to be kept.
#[derive(Clone, Debug)]
pub struct BegunBox {
    /// The frame's header, the command's name, the nonce, the tag, and the encrypted flags.
    head: [u8; frame::HEADER_MAX + OVERHEAD],
    header_size: usize,
    /// Size of the frame's body that is in the box.
    body_size: usize,
    /// Bytes that were sent.
    sent: usize,
}

impl BegunBox {
    /// Makes one of the bytes that [`Sealer::begin_frame`] has appended; so many were sent. `None`
    /// if they are not that.
    pub fn new(made: &[u8], sent: usize) -> Option<Self> {
        let header = frame::read_header(made)?;
        let header_size = header.header_size;
        let body_size = usize::try_from(header.body_size).ok()?.checked_sub(OVERHEAD)?;
        let mut head = [0; frame::HEADER_MAX + OVERHEAD];
        let size = header_size + OVERHEAD;
        head.get_mut(..size)?.copy_from_slice(made.get(..size)?);
        Some(Self { head, header_size, body_size, sent })
    }

    /// Counts more bytes that were sent.
    pub fn handle_sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Returns true if all of it was sent.
    pub fn is_whole(&self) -> bool {
        self.sent >= self.head().len() + self.body_size
    }

    /// Bytes of the frame's body that are left.
    pub fn body_left(&self) -> usize {
        self.body_size - self.body_sent()
    }

    /// Bytes of the frame's body that were sent.
    fn body_sent(&self) -> usize {
        self.sent.saturating_sub(self.head().len()).min(self.body_size)
    }

    fn head(&self) -> &[u8] {
        &self.head[..self.header_size + OVERHEAD]
    }

    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.head[self.header_size + NAME.len()..][..NONCE_BYTES]);
        nonce
    }
}

/// Opens what the peer sends once the handshake is done.
#[derive(Debug)]
pub(crate) struct Opener {
    key: BoxKey,
    /// The peer's last short nonce.
    nonce: u64,
}

impl Opener {
    pub(super) fn new(shared: &Shared, side: Side, nonce: u64) -> Self {
        Self { key: shared.key(side.text()), nonce }
    }

    /// Opens the body of a MESSAGE frame: the flags of ZMTP framing, and the body in it.
    pub(crate) fn open(&mut self, body: &[u8]) -> Result<(u8, Bytes), Error> {
        let Some(rest) = body.strip_prefix(NAME) else {
            let found = format!("{:?} where a MESSAGE should be", printable(body));
            return Err(Error::malformed("CURVE traffic", found));
        };
        let (Some((short, boxed)), true) =
            (rest.split_first_chunk::<NONCE_BYTES>(), body.len() >= OVERHEAD)
        else {
            let found = format!("{} bytes, at least {OVERHEAD} are needed", body.len());
            return Err(Error::malformed("MESSAGE command", found));
        };
        let number = u64::from_be_bytes(*short);
        if number <= self.nonce && !zafka_planted::is("nonce-may-fall") {
            let found = format!("nonce {number} after {}; it must rise", self.nonce);
            return Err(Error::malformed("MESSAGE command", found));
        }
        let Some(text) = self.key.open(short, boxed) else {
            return Err(Error::Unopened { command: "MESSAGE" });
        };
        self.nonce = number;
        let text = Bytes::from(text);
        let inner = text.first().copied().unwrap_or_default();
        let flags = match inner {
            0 => 0,
            INNER_MORE => MORE,
            INNER_COMMAND => COMMAND,
            _ => {
                let found = format!("flags 0x{inner:02x}; 0, 1 and 2 are allowed");
                return Err(Error::malformed("MESSAGE command", found));
            }
        };
        Ok((flags, text.slice(1..)))
    }
}

#[cfg(test)]
mod tests {
    use crypto_box::SalsaBox;
    use crypto_box::aead::AeadInPlace;

    use super::*;

    /// Boxes are those of NaCl, as the crate `crypto_box` makes them.
    #[test]
    fn boxes_are_those_of_crypto_box() {
        let [ours, theirs] = [[3; 32], [5; 32]].map(SecretKey::from_bytes);
        let shared = Shared::new(theirs.public_key(), &ours);
        let public = crypto_box::PublicKey::from(*theirs.public_key().as_bytes());
        let reference = SalsaBox::new(&public, ours.to_box());
        for size in [0, 1, 15, 16, 31, 32, 33, 64, 100, 1_000, 70_000] {
            let text: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
            let nonce = nonce(b"CurveZMQMESSAGEC", &(size as u64).to_be_bytes());
            let mut expected = text.clone();
            let tag = reference.encrypt_in_place_detached((&nonce).into(), b"", &mut expected);
            let mut sealed = Vec::new();
            shared.seal(&nonce, &[&text[..size / 2], &text[size / 2..]], &mut sealed);
            assert_eq!(sealed, [&tag.unwrap()[..], &expected].concat(), "{size} bytes");
            assert_eq!(shared.open(&nonce, &sealed), Some(text));
            for place in [0, TAG_BYTES - 1, sealed.len() - 1] {
                let mut forged = sealed.clone();
                forged[place] ^= 1;
                assert_eq!(shared.open(&nonce, &forged), None, "{size} bytes, at {place}");
            }
        }
    }

    /// A box that is made in parts, each from any place on, is the one that is made at once.
    #[test]
    fn a_box_that_was_begun_goes_on_as_if_it_were_made_at_once() {
        let [ours, theirs] = [[3; 32], [5; 32]].map(SecretKey::from_bytes);
        let shared = Shared::new(theirs.public_key(), &ours);
        for size in [0, 1, 30, 31, 32, 94, 95, 96, 200, 255 - OVERHEAD, 1_000] {
            let body: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
            let mut whole = Vec::new();
            Sealer::new(&shared, Side::Server, 7).seal_frame(MORE, &body, &mut whole);
            for most in [0, 1, 30, 31, 32, 95, 100, 159, 999, 2_000] {
                let mut sealer = Sealer::new(&shared, Side::Server, 7);
                let mut begun = Vec::new();
                let left = sealer.begin_frame(MORE, &body, most, &mut begun);
                assert!(whole.starts_with(&begun), "{size} bytes, begun with {most}");
                assert_eq!(begun.len() + left, whole.len());
                assert!(left == 0 || most < size);
                assert!(begun.len() <= whole.len() - size + most.max(31).min(size));
                // Other boxes do not matter.
                sealer.seal_frame(0, b"x", &mut Vec::new());
                for sent in 0..=begun.len() {
                    let mut wire = begun[..sent].to_vec();
                    let mut left = BegunBox::new(&begun, sent).unwrap();
                    while !left.is_whole() {
                        let (before, rest) = (wire.len(), size - left.body_left());
                        let rest = [&body[rest..], b"behind"].concat();
                        sealer.resume(&left, &rest, 70, &mut wire).unwrap();
                        assert!(wire.len() - before <= whole.len() - size + 70);
                        left.handle_sent(wire.len() - before);
                    }
                    assert_eq!(left.body_left(), 0);
                    assert!(wire == whole, "{size} bytes, begun with {most}, {sent} were sent");
                }
            }
        }
        let mut made = Vec::new();
        let mut sealer = Sealer::new(&shared, Side::Server, 0);
        sealer.seal_frame(0, &[1; 10], &mut made);
        let begun = BegunBox::new(&made, made.len() - 4).unwrap();
        assert!(sealer.resume(&begun, &[1; 3], 70, &mut Vec::new()).is_err());
        assert!(BegunBox::new(&made[..20], 3).is_none());
    }
}
