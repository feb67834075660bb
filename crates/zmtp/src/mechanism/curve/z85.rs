//! Z85 (RFC 32): keys as text, five characters for four bytes.

/// Size of a key in bytes.
pub const KEY_BYTES: usize = 32;

/// The reason why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A text of another length.
    #[error("{found} characters, a key in Z85 has 40")]
    Length {
        /// The number of its characters.
        found: usize,
    },
    /// A text with something that is not Z85.
    #[error("characters that are not Z85 (RFC 32)")]
    Character,
    /// Bytes that stand for a key which others stand for too.
    #[error("a key that is not in canonical form")]
    NotCanonical,
    /// A key with which every secret gives the same.
    #[error("a key of low order, which protects nothing")]
    LowOrder,
}

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Characters of a key.
const TEXT: usize = KEY_BYTES / 4 * 5;

/// A key as text.
pub(super) fn encode(key: &[u8; KEY_BYTES]) -> String {
    let mut text = String::with_capacity(TEXT);
    let (words, _) = key.as_chunks::<4>();
    for word in words {
        let value = u32::from_be_bytes(*word);
        for power in [85 * 85 * 85 * 85, 85 * 85 * 85, 85 * 85, 85, 1] {
            text.push(char::from(ALPHABET[(value / power % 85) as usize]));
        }
    }
    text
}

/// The key that a text stands for.
pub(super) fn decode(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    if text.len() != TEXT {
        return Err(KeyError::Length { found: text.chars().count() });
    }
    let mut key = [0; KEY_BYTES];
    for (word, digits) in key.chunks_exact_mut(4).zip(text.as_bytes().chunks_exact(5)) {
        let mut value = 0u64;
        for digit in digits {
            let Some(place) = ALPHABET.iter().position(|other| other == digit) else {
                return Err(KeyError::Character);
            };
            value = value * 85 + place as u64;
        }
        let value = u32::try_from(value).map_err(|_| KeyError::Character)?;
        word.copy_from_slice(&value.to_be_bytes());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        // RFC 32 has eight bytes; a key is four times as long.
        let bytes = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b].repeat(4);
        let key: [u8; KEY_BYTES] = bytes.try_into().unwrap();
        let text = "HelloWorld".repeat(4);
        assert_eq!(encode(&key), text);
        assert_eq!(decode(&text), Ok(key));
    }

    #[test]
    fn what_is_no_key() {
        for (text, error) in [
            ("".to_owned(), KeyError::Length { found: 0 }),
            ("a".repeat(39), KeyError::Length { found: 39 }),
            ("a".repeat(41), KeyError::Length { found: 41 }),
            ("\u{e9}".repeat(20), KeyError::Character),
            ("a".repeat(39) + " ", KeyError::Character),
            ("a".repeat(39) + "\"", KeyError::Character),
            // More than four bytes can tell.
            ("#".repeat(40), KeyError::Character),
        ] {
            assert_eq!(decode(&text), Err(error), "{text}");
        }
    }
}
