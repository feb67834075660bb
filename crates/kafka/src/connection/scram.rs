//! SCRAM (RFC 5802, RFC 7677), the client's side, without channel binding. Names and passwords are
//! taken as UTF-8 without SASLprep, as Kafka's own client and broker do.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine};
use bytes::Bytes;
use hmac::digest::{InvalidLength, KeyInit};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

use crate::config::{Credentials, Secret};

/// Rounds of the hash that a server may ask for: no fewer than RFC 7677 allows, no more than keep a
/// client busy.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
const NONCE_BYTES: usize = 24;
/// The header of a client without channel binding.
const GS2: &str = "n,,";

/// The variant of SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn digest(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Result<Vec<u8>, InvalidLength> {
        Ok(match self {
            Self::Sha256 => keyed::<Hmac<Sha256>>(key, text)?.finalize().into_bytes().to_vec(),
            Self::Sha512 => keyed::<Hmac<Sha512>>(key, text)?.finalize().into_bytes().to_vec(),
        })
    }

    /// Returns true if a tag is right, in a time that does not depend on the byte at which it is
    /// wrong.
    fn verify(self, key: &[u8], text: &[u8], tag: &[u8]) -> bool {
        match self {
            Self::Sha256 => {
                keyed::<Hmac<Sha256>>(key, text).is_ok_and(|mac| mac.verify_slice(tag).is_ok())
            }
            Self::Sha512 => {
                keyed::<Hmac<Sha512>>(key, text).is_ok_and(|mac| mac.verify_slice(tag).is_ok())
            }
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, rounds).to_vec()
            }
            Self::Sha512 => {
                pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, rounds).to_vec()
            }
        }
    }
}

fn keyed<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Result<M, InvalidLength> {
    let mut mac = <M as Mac>::new_from_slice(key)?;
    mac.update(text);
    Ok(mac)
}

/// The reason why an exchange fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    #[error("a {message} that is not UTF-8")]
    NotText { message: &'static str },
    #[error("a challenge without {0}=")]
    NoField(&'static str),
    #[error("a challenge with a number of rounds that is none")]
    NoNumber,
    #[error(
        "the server wants {0} rounds, {start} to {end} are done",
        start = ROUNDS.start(),
        end = ROUNDS.end()
    )]
    Rounds(u32),
    #[error("the server's nonce does not go on from ours")]
    Nonce,
    #[error("the server's salt: {0}")]
    Salt(#[from] DecodeError),
    #[error("{0}")]
    Key(InvalidLength),
    /// The server's error (RFC 5802, section 7).
    #[error("{0}")]
    Server(String),
    #[error("the server does not prove that it knows the password")]
    NoProof,
}

impl From<InvalidLength> for ScramError {
    fn from(error: InvalidLength) -> Self {
        Self::Key(error)
    }
}

/// One exchange.
pub(super) struct Scram {
    hash: Hash,
    username: String,
    password: Secret,
    nonce: String,
    /// The server's expected proof, once it is known: its key and the text that it signs.
    server: Option<(Vec<u8>, String)>,
}

impl Scram {
    pub(super) fn new(hash: Hash, credentials: &Credentials) -> Self {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        Self::with_nonce(hash, credentials, STANDARD.encode(nonce))
    }

    fn with_nonce(hash: Hash, credentials: &Credentials, nonce: String) -> Self {
        let username = credentials.username.replace('=', "=3D").replace(',', "=2C");
        Self { hash, username, password: credentials.password.clone(), nonce, server: None }
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.username, self.nonce)
    }

    /// The client's first message.
    pub(super) fn first(&self) -> Bytes {
        format!("{GS2}{}", self.first_bare()).into()
    }

    /// The client's last message, by the server's first one.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Bytes, ScramError> {
        let challenge = text(challenge, "challenge")?;
        let (nonce, salt, rounds) = read_challenge(challenge)?;
        // One that is only ours could be a repetition of what somebody else has heard.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        if !ROUNDS.contains(&rounds) {
            return Err(ScramError::Rounds(rounds));
        }
        let salt = STANDARD.decode(salt)?;
        let salted = self.hash.salted(self.password.expose().as_bytes(), &salt, rounds);
        let client_key = self.hash.hmac(&salted, b"Client Key")?;
        let stored_key = self.hash.digest(&client_key);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(GS2));
        let signed = format!("{},{challenge},{without_proof}", self.first_bare());
        let signature = self.hash.hmac(&stored_key, signed.as_bytes())?;
        let proof: Vec<u8> =
            client_key.iter().zip(&signature).map(|(key, byte)| key ^ byte).collect();
        self.server = Some((self.hash.hmac(&salted, b"Server Key")?, signed));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)).into())
    }

    /// Returns an error unless the server's last message proves that it knows the password too.
    pub(super) fn verify(&self, last: &[u8]) -> Result<(), ScramError> {
        let last = text(last, "last message")?;
        if let Some(error) = last.strip_prefix("e=") {
            return Err(ScramError::Server(error.to_owned()));
        }
        let tag = last.split(',').next().and_then(|first| first.strip_prefix("v="));
        let tag = tag.and_then(|tag| STANDARD.decode(tag).ok());
        match (&self.server, tag) {
            (Some((key, signed)), Some(tag)) if self.hash.verify(key, signed.as_bytes(), &tag) => {
                Ok(())
            }
            _ => Err(ScramError::NoProof),
        }
    }
}

fn text<'a>(bytes: &'a [u8], message: &'static str) -> Result<&'a str, ScramError> {
    std::str::from_utf8(bytes).map_err(|_| ScramError::NotText { message })
}

/// Nonce, salt (base64) and rounds. Extensions after them may be ignored.
fn read_challenge(challenge: &str) -> Result<(&str, &str, u32), ScramError> {
    let mut fields = challenge.split(',');
    let mut field = |name: &'static str| {
        let value = fields.next().and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.ok_or(ScramError::NoField(name))
    };
    let (nonce, salt, rounds) = (field("r")?, field("s")?, field("i")?);
    let rounds = rounds.parse().map_err(|_| ScramError::NoNumber)?;
    Ok((nonce, salt, rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scram_of(hash: Hash, nonce: &str) -> Scram {
        let credentials =
            Credentials { username: "user".to_owned(), password: Secret::new("pencil") };
        Scram::with_nonce(hash, &credentials, nonce.to_owned())
    }

    fn scram(nonce: &str) -> Scram {
        scram_of(Hash::Sha256, nonce)
    }

    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// RFC 7677 section 3.
    #[test]
    fn the_exchange_of_the_specification() {
        let mut scram = scram("rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.answer(CHALLENGE.as_bytes()).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    /// The same with SHA-512, as Python's hashlib and hmac reckon it (they also give what RFC 7677
    /// has).
    #[test]
    fn the_same_exchange_with_sha_512() {
        let mut scram = scram_of(Hash::Sha512, "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(
            scram.answer(CHALLENGE.as_bytes()).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYP\
             JQ=="
        );
        scram
            .verify(
                b"v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RV\
                  G2rR7N7Zw==",
            )
            .unwrap();
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let mut scram = scram("rOprNGfwEbeRWgbNEkqO");
        assert!(
            scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err(),
            "before any answer"
        );
        scram.answer(CHALLENGE.as_bytes()).unwrap();
        for last in ["v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "v=", "", "x", "v=%"] {
            assert!(scram.verify(last.as_bytes()).is_err(), "{last}");
        }
        assert_eq!(scram.verify(b"e=unknown-user").unwrap_err().to_string(), "unknown-user");
    }

    #[test]
    fn challenges_that_are_none() {
        for (challenge, told) in [
            ("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
            ("r=mine,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
            ("r=mine1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095", "4096 to"),
            ("r=mine1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000", "4096 to"),
            ("r=mine1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1", "rounds"),
            ("r=mine1,s=%,i=4096", "salt"),
            ("s=W22ZaJ0SNY7soEsUEjb6gQ==,r=mine1,i=4096", "r="),
            ("r=mine1", "s="),
            ("", "r="),
        ] {
            let error = scram("mine").answer(challenge.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(told), "{challenge}: {error}");
        }
    }

    #[test]
    fn a_name_is_escaped() {
        let credentials = Credentials { username: "a=b,c".to_owned(), password: Secret::new("") };
        let scram = Scram::with_nonce(Hash::Sha512, &credentials, "r".to_owned());
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=r");
    }
}
