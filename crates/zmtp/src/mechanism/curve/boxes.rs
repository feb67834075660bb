//! Boxes: what goes into one, and what comes out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use curve25519_dalek::MontgomeryPoint;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use salsa20::cipher::consts::U10;
use salsa20::cipher::generic_array::GenericArray;
use salsa20::cipher::{Block, KeyIvInit, StreamCipherCore};
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

    /// Encrypts or decrypts a whole text behind `begin`. A text in memory is shorter than the key
    /// stream (2^70 bytes).
    fn apply(&mut self, mut cipher: Cipher, text: &mut [u8]) {
        let begun = text.len().min(self.block.len() - MAC_KEY_BYTES);
        let (first, rest) = text.split_at_mut(begun);
        xor(first, &self.block[MAC_KEY_BYTES..]);
        for part in rest.chunks_mut(self.block.len()) {
            cipher.write_keystream_block(&mut self.block);
            xor(part, &self.block);
        }
    }

    fn seal(&mut self, nonce: &[u8; NONCE_BYTES], parts: &[&[u8]], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; TAG_BYTES]);
        for part in parts {
            out.extend_from_slice(part);
        }
        self.seal_at(nonce, &mut out[start..]);
    }

    /// Makes a box in place of the text that is behind the room for its tag.
    fn seal_at(&mut self, nonce: &[u8; NONCE_BYTES], place: &mut [u8]) {
        let (tag, text) = place.split_at_mut(TAG_BYTES);
        let (cipher, mac) = self.begin(nonce);
        self.apply(cipher, text);
        tag.copy_from_slice(&mac.compute_unpadded(text));
    }

    fn open(&mut self, nonce: &[u8; NONCE_BYTES], boxed: &[u8]) -> Option<Vec<u8>> {
        let (tag, text) = boxed.split_first_chunk::<TAG_BYTES>()?;
        let (cipher, mac) = self.begin(nonce);
        // In constant time.
        if !bool::from(mac.compute_unpadded(text).ct_eq(tag)) {
            return None;
        }
        let mut text = text.to_vec();
        self.apply(cipher, &mut text);
        Some(text)
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
        self.nonce += 1;
        let short = self.nonce.to_be_bytes();
        let size = OVERHEAD + body.len();
        out.reserve(size + frame::HEADER_MAX);
        frame::put_header(out, Position::Last, size);
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
        out.extend_from_slice(body);
        self.key.seal_at(&short, &mut out[start..]);
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
}
