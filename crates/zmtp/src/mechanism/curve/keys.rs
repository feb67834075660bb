//! Long-term and short-term keys of Curve25519.

use std::fmt;
use std::str::FromStr;

use super::z85::{self, KEY_BYTES, KeyError};

/// The public half of a key: canonical, and not of low order. As text it is Z85.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

/// The points of low order whose bytes are canonical: 0, 1, -1, and two of order eight.
const LOW_ORDER: [[u8; KEY_BYTES]; 5] = [
    [0; KEY_BYTES],
    first_byte(1),
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
];

const fn first_byte(byte: u8) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[0] = byte;
    bytes
}

impl PublicKey {
    /// Takes a key as it goes over the wire.
    ///
    /// # Errors
    /// A key of low order, or bytes that are not its canonical form (RFC 7748 takes them, but one
    /// key under two names could be refused under one and come back under the other).
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let [first, middle @ .., last] = &bytes;
        let at_least_p = *last == 0x7f && middle.iter().all(|&byte| byte == 0xff) && *first >= 0xed;
        if (*last > 0x7f || at_least_p) && !zafka_planted::is("a-key-has-two-forms") {
            return Err(KeyError::NotCanonical);
        }
        if LOW_ORDER.contains(&bytes) {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// The key as it goes over the wire.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z85::encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(z85::decode(text)?)
    }
}

/// The secret half of a key. It never shows in a log, and is wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(crypto_box::SecretKey);

impl SecretKey {
    /// Takes 32 bytes, random ones for a new key.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(crypto_box::SecretKey::from(bytes))
    }

    /// Takes a key in Z85.
    ///
    /// # Errors
    /// A text that is not one.
    pub fn from_z85(text: &str) -> Result<Self, KeyError> {
        z85::decode(text).map(Self::from_bytes)
    }

    /// The key in Z85, for its file.
    pub fn expose_z85(&self) -> String {
        z85::encode(&self.0.to_bytes())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        // The product of a clamped scalar and the base point is neither.
        PublicKey(*self.0.public_key().as_bytes())
    }

    pub(super) fn to_box(&self) -> &crypto_box::SecretKey {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// Both halves of a key.
#[derive(Clone, Debug)]
pub struct KeyPair {
    public: PublicKey,
    secret: SecretKey,
}

/// Compared by the public half, which belongs to one secret half.
impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for KeyPair {}

impl KeyPair {
    /// Finds the public half.
    pub fn new(secret: SecretKey) -> Self {
        Self { public: secret.public_key(), secret }
    }

    /// The public half.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret half.
    pub const fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2^255 - 19, little-endian.
    const P: [u8; KEY_BYTES] = {
        let mut bytes = [0xff; KEY_BYTES];
        bytes[0] = 0xed;
        bytes[KEY_BYTES - 1] = 0x7f;
        bytes
    };

    #[test]
    fn the_key_pair_of_the_manual_of_libzmq() {
        let secret = SecretKey::from_z85("JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6").unwrap();
        let public = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
        assert_eq!(KeyPair::new(secret.clone()).public().to_string(), public);
        assert_eq!(public.parse::<PublicKey>(), Ok(secret.public_key()));
        assert_eq!(secret.expose_z85(), "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6");
        assert_eq!(format!("{secret:?}"), "SecretKey");
    }

    #[test]
    fn one_key_has_one_form() {
        let good = SecretKey::from_bytes([7; KEY_BYTES]).public_key();
        assert_eq!(PublicKey::from_bytes(*good.as_bytes()), Ok(good));
        let mut top_bit = *good.as_bytes();
        top_bit[KEY_BYTES - 1] |= 0x80;
        let mut below = P;
        below[0] -= 2;
        assert!(PublicKey::from_bytes(below).is_ok());
        let mut nine_plus_p = P;
        nine_plus_p[0] = 0xed + 9;
        for other in [top_bit, P, nine_plus_p, [0xff; KEY_BYTES]] {
            assert_eq!(PublicKey::from_bytes(other), Err(KeyError::NotCanonical));
        }
    }

    /// Keys of low order: with each of them two secrets agree that have nothing in common.
    #[test]
    fn keys_of_low_order_are_refused() {
        for bytes in LOW_ORDER {
            assert_eq!(PublicKey::from_bytes(bytes), Err(KeyError::LowOrder));
            let sealed = [3, 5].map(|secret| {
                use crypto_box::aead::AeadInPlace;
                let secret = crypto_box::SecretKey::from([secret; KEY_BYTES]);
                let shared = crypto_box::SalsaBox::new(&bytes.into(), &secret);
                let mut text = *b"hello";
                shared.encrypt_in_place_detached(&[0; 24].into(), b"", &mut text).unwrap();
                text
            });
            assert_eq!(sealed[0], sealed[1]);
        }
    }
}
