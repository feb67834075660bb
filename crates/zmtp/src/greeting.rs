//! The greeting (RFC 37, "Version Negotiation"): 64 octets that each side sends at once.
//!
//! A peer that does not speak ZMTP 3 is told by the first octet that shows it, since it may wait
//! for us and never send another.

use crate::error::{Error, FoundVersion, printable};
use crate::mechanism::Mechanism;
use crate::minor::Minor;

/// Size of a greeting in bytes.
const SIZE: usize = 64;
const SIGNATURE_END: usize = 9;
const MAJOR: usize = 10;
const MINOR: usize = 11;
const MECHANISM: std::ops::Range<usize> = 12..32;
const AS_SERVER: usize = 32;

/// Our greeting.
pub(crate) fn encode(mechanism: &Mechanism) -> [u8; SIZE] {
    let mut greeting = [0; SIZE];
    greeting[0] = 0xff;
    // The padding tells a ZMTP 1.0 peer the size of a frame that it will read as our identity.
    greeting[SIGNATURE_END - 1] = 1;
    greeting[SIGNATURE_END] = 0x7f;
    greeting[MAJOR] = 3;
    greeting[MINOR] = 1;
    let name = mechanism.name().as_bytes();
    greeting[MECHANISM.start..MECHANISM.start + name.len()].copy_from_slice(name);
    // libzmq leaves it 0 on both sides, so that nothing can be read from a peer's.
    greeting[AS_SERVER] = mechanism.as_server();
    greeting
}

/// The peer's greeting, as far as it has come.
#[derive(Debug)]
pub(crate) struct Incoming {
    bytes: [u8; SIZE],
    size: usize,
}

impl Incoming {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; SIZE], size: 0 }
    }

    /// Takes what belongs to the greeting off the front of `input`; the minor version when it is
    /// whole.
    pub(crate) fn take(
        &mut self,
        input: &mut &[u8],
        ours: &Mechanism,
    ) -> Result<Option<Minor>, Error> {
        while self.size < SIZE {
            let Some((&octet, rest)) = input.split_first() else {
                return Ok(None);
            };
            *input = rest;
            self.bytes[self.size] = octet;
            self.size += 1;
            self.check_last(octet, ours)?;
        }
        // A major version above 3 is one that knows how to fall back to ours.
        let old = self.bytes[MAJOR] == 3 && self.bytes[MINOR] == 0;
        Ok(Some(if old { Minor::Zero } else { Minor::One }))
    }

    /// Checks what the octet just taken completes.
    fn check_last(&self, octet: u8, ours: &Mechanism) -> Result<(), Error> {
        match self.size - 1 {
            0 if octet != 0xff => {
                Err(Error::Version { found: FoundVersion::NoSignature { first: octet } })
            }
            // Here stand the flags of a long ZMTP 1.0 frame, whose lowest bit says "more" and is
            // clear.
            SIGNATURE_END if octet & 1 == 0 => Err(Error::Version { found: FoundVersion::V1 }),
            SIGNATURE_END if octet != 0x7f => Err(Error::malformed(
                "greeting",
                format!("the signature ends in 0x{octet:02x}, not 0x7f"),
            )),
            MAJOR if octet < 3 => Err(Error::Version { found: FoundVersion::Revision(octet) }),
            last if last == MECHANISM.end - 1 => self.check_mechanism(ours),
            _ => Ok(()),
        }
    }

    fn check_mechanism(&self, ours: &Mechanism) -> Result<(), Error> {
        let padded = &self.bytes[MECHANISM];
        let end = padded.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
        let name = &padded[..end];
        if name == ours.name().as_bytes() {
            return Ok(());
        }
        Err(Error::Mechanism { ours: ours.name(), theirs: printable(name) })
    }
}
