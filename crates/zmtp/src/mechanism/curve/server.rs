//! The server's side of the handshake: HELLO, WELCOME, INITIATE, READY.
//!
//! The checks come in the order of their cost: sizes, the box of HELLO, the cookie, the box of
//! INITIATE, the vouch. Then the caller decides.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::boxes::{Opener, Sealer, Shared, Side, nonce};
use super::keys::{PublicKey, SecretKey};
use super::{COOKIE_BYTES, HELLO_BYTES, INITIATE_BYTES, ServerSide, bytes, ephemeral, field};
use crate::Minor;
use crate::command::{self, Command};
use crate::error::{Error, printable};
use crate::mechanism::{Done, MAX_HANDSHAKE_COMMAND, Ours, PeerInfo, Step, read_peer};
use crate::metadata;

/// The content of a HELLO's box.
const SIGNATURE: [u8; 64] = [0; 64];

/// A server's handshake.
#[derive(Debug)]
pub(crate) struct Server {
    side: Arc<ServerSide>,
    stage: ServerStage,
}

#[derive(Debug)]
enum ServerStage {
    Hello,
    Initiate(Box<Welcomed>),
    Presented(Box<Presented>),
    /// The end: nothing more is taken.
    Over,
}

/// A client that was sent WELCOME.
#[derive(Debug)]
struct Welcomed {
    /// Our long-term key that the client knows.
    ours: PublicKey,
    ephemeral: SecretKey,
    /// The client's short-term key.
    client: PublicKey,
    cookie: [u8; COOKIE_BYTES],
    /// The client's last short nonce.
    nonce: u64,
}

/// A client that has proven its key.
#[derive(Debug)]
struct Presented {
    shared: Shared,
    nonce: u64,
    peer: PeerInfo,
}

impl Server {
    pub(crate) fn new(side: Arc<ServerSide>) -> Self {
        Self { side, stage: ServerStage::Hello }
    }

    pub(crate) fn sizes(&self) -> RangeInclusive<usize> {
        match self.stage {
            ServerStage::Hello => HELLO_BYTES..=HELLO_BYTES,
            _ => INITIATE_BYTES..=MAX_HANDSHAKE_COMMAND,
        }
    }

    pub(crate) fn take(
        &mut self,
        body: &[u8],
        ours: Ours<'_>,
        minor: Minor,
        out: &mut Vec<u8>,
    ) -> Result<Step, Error> {
        match std::mem::replace(&mut self.stage, ServerStage::Over) {
            ServerStage::Hello => {
                let hello = after_name(body, b"\x05HELLO", "HELLO")?;
                self.stage = ServerStage::Initiate(Box::new(self.welcome(hello, out)?));
                Ok(Step::Wait)
            }
            ServerStage::Initiate(welcomed) => {
                let initiate = after_name(body, b"\x08INITIATE", "INITIATE")?;
                let presented = welcomed.read_initiate(initiate, ours, minor)?;
                let peer = presented.peer.clone();
                self.stage = ServerStage::Presented(Box::new(presented));
                Ok(Step::Presented(Box::new(peer)))
            }
            ServerStage::Presented(_) | ServerStage::Over => {
                Err(Error::malformed("CURVE handshake", "input before our READY"))
            }
        }
    }

    /// Reads a HELLO and appends our WELCOME.
    fn welcome(&self, mut hello: &[u8], out: &mut Vec<u8>) -> Result<Welcomed, Error> {
        let [major, minor] = field(&mut hello)?;
        if (major, minor) != (1, 0) {
            let found = format!("CurveZMQ {major}.{minor}, ours is 1.0");
            return Err(Error::malformed("HELLO command", found));
        }
        let _padding: [u8; 72] = field(&mut hello)?;
        let client = PublicKey::from_bytes(field(&mut hello)?)
            .map_err(|error| Error::malformed("HELLO command", error.to_string()))?;
        let short = field(&mut hello)?;
        let hello_nonce = nonce(b"CurveZMQHELLO---", &short);
        let opened = self.side.keys.iter().find_map(|ours| {
            let shared = Shared::new(client, ours.secret());
            let text = shared.open(&hello_nonce, hello)?;
            Some((ours.public(), shared, text))
        });
        let Some((ours, shared, text)) = opened else {
            return Err(Error::Unopened { command: "HELLO" });
        };
        if text != SIGNATURE {
            return Err(Error::malformed("HELLO command", "a signature that is not zero"));
        }
        let random = self.side.random;
        let (ephemeral, cookie) = (ephemeral(random), bytes(random));
        let long: [u8; 16] = bytes(random);
        let mut boxed = Vec::new();
        let public = ephemeral.public_key();
        let parts: [&[u8]; 2] = [public.as_bytes(), &cookie];
        shared.seal(&nonce(b"WELCOME-", &long), &parts, &mut boxed);
        command::put(out, "WELCOME", &[&long, &boxed]);
        Ok(Welcomed { ours, ephemeral, client, cookie, nonce: u64::from_be_bytes(short) })
    }

    /// Appends our READY for the client that was presented.
    pub(crate) fn admit(
        &mut self,
        properties: &[(&str, &str)],
        ours: Ours<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Done>> {
        match std::mem::replace(&mut self.stage, ServerStage::Over) {
            ServerStage::Presented(presented) => Some(presented.ready(properties, ours, out)),
            stage => {
                self.stage = stage;
                None
            }
        }
    }
}

impl Welcomed {
    fn read_initiate(
        &self,
        mut initiate: &[u8],
        ours: Ours<'_>,
        minor: Minor,
    ) -> Result<Presented, Error> {
        let cookie: [u8; COOKIE_BYTES] = field(&mut initiate)?;
        // It is no secret from this client, and from others it is boxed.
        if cookie != self.cookie && !zafka_planted::is("any-cookie-is-taken") {
            return Err(Error::malformed("INITIATE command", "a cookie that is not ours"));
        }
        let short = field(&mut initiate)?;
        let number = u64::from_be_bytes(short);
        if number <= self.nonce && !zafka_planted::is("initiate-repeats-a-nonce") {
            let found = format!("nonce {number} after {}; it must rise", self.nonce);
            return Err(Error::malformed("INITIATE command", found));
        }
        let shared = Shared::new(self.client, &self.ephemeral);
        let Some(text) = shared.open(&nonce(b"CurveZMQINITIATE", &short), initiate) else {
            return Err(Error::Unopened { command: "INITIATE" });
        };
        let mut text = &*text;
        let key = PublicKey::from_bytes(field(&mut text)?).map_err(|_| Error::Rejected {
            found: "a key of low order or not in canonical form",
        })?;
        let vouch_nonce = nonce(b"VOUCH---", &field::<16>(&mut text)?);
        let vouch: [u8; 80] = field(&mut text)?;
        let vouched = Shared::new(key, &self.ephemeral).open(&vouch_nonce, &vouch);
        let (client, server) = (self.client.as_bytes(), self.ours.as_bytes());
        let is_vouched = vouched.is_some_and(|vouched| {
            let (of_client, of_server) = vouched.split_at(client.len());
            (of_client == client || zafka_planted::is("vouch-of-any-connection"))
                && (of_server == server || zafka_planted::is("vouch-for-any-server"))
        });
        if !is_vouched {
            return Err(Error::Rejected { found: "a vouch that does not prove the client's key" });
        }
        let peer = read_peer(text, ours.socket_type, minor, Some(key))?;
        Ok(Presented { shared, nonce: number, peer })
    }
}

impl Presented {
    fn ready(self, properties: &[(&str, &str)], ours: Ours<'_>, out: &mut Vec<u8>) -> Box<Done> {
        let Self { shared, nonce: last, mut peer } = self;
        let mut text = Vec::new();
        ours.put_properties(&mut text);
        for (name, value) in properties {
            metadata::put(&mut text, name, value.as_bytes());
        }
        let short = 1u64.to_be_bytes();
        let mut boxed = Vec::new();
        shared.seal(&nonce(b"CurveZMQREADY---", &short), &[&text], &mut boxed);
        command::put(out, "READY", &[&short, &boxed]);
        // The gate that decided has seen it.
        peer.token = None;
        let sealer = Sealer::new(&shared, Side::Server, 1);
        let opener = Opener::new(&shared, Side::Client, last);
        Box::new(Done { peer, boxes: Some((sealer, opener)) })
    }
}

/// Returns the part after a command's name.
fn after_name<'a>(body: &'a [u8], name: &[u8], wanted: &'static str) -> Result<&'a [u8], Error> {
    if let Some(rest) = body.strip_prefix(name) {
        return Ok(rest);
    }
    match command::parse(body)? {
        Command::Error { reason } => Err(Error::PeerError { reason: printable(reason) }),
        other => {
            let found = format!("{} where {wanted} should be", other.name());
            Err(Error::malformed("CURVE handshake", found))
        }
    }
}
