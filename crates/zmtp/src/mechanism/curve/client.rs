//! The client's side of the handshake: HELLO, WELCOME, INITIATE, READY.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::boxes::{Opener, Sealer, Shared, Side, nonce};
use super::keys::{PublicKey, SecretKey};
use super::{COOKIE_BYTES, ClientSide, WELCOME_BYTES, bytes, ephemeral, field};
use crate::Minor;
use crate::command::{self, Command};
use crate::error::{Error, printable};
use crate::mechanism::{Done, MAX_HANDSHAKE_COMMAND, Ours, Step, TOKEN, read_peer};
use crate::metadata;

/// Short nonces of our two commands.
const HELLO_NONCE: u64 = 1;
const INITIATE_NONCE: u64 = 2;

/// A client's handshake.
#[derive(Debug)]
pub(crate) struct Client {
    side: Arc<ClientSide>,
    ephemeral: SecretKey,
    stage: ClientStage,
}

#[derive(Debug)]
enum ClientStage {
    Welcome,
    Ready(Shared),
    /// The end: nothing more is taken.
    Over,
}

impl Client {
    pub(crate) fn new(side: Arc<ClientSide>) -> Self {
        let ephemeral = ephemeral(side.random);
        Self { side, ephemeral, stage: ClientStage::Welcome }
    }

    /// Sizes of the server's next command; an ERROR is shorter than what is waited for.
    pub(crate) fn sizes(&self) -> RangeInclusive<usize> {
        match self.stage {
            ClientStage::Welcome => 1..=WELCOME_BYTES.max("\x05ERROR\x00".len() + 255),
            _ => 1..=MAX_HANDSHAKE_COMMAND,
        }
    }

    pub(crate) fn put_hello(&self, out: &mut Vec<u8>) {
        let short = HELLO_NONCE.to_be_bytes();
        let mut boxed = Vec::new();
        let shared = Shared::new(self.side.server, &self.ephemeral);
        shared.seal(&nonce(b"CurveZMQHELLO---", &short), &[&[0; 64]], &mut boxed);
        let ephemeral = self.ephemeral.public_key();
        command::put(out, "HELLO", &[&[1, 0], &[0; 72], ephemeral.as_bytes(), &short, &boxed]);
    }

    pub(crate) fn take(
        &mut self,
        body: &[u8],
        ours: Ours<'_>,
        minor: Minor,
        out: &mut Vec<u8>,
    ) -> Result<Step, Error> {
        let stage = std::mem::replace(&mut self.stage, ClientStage::Over);
        if let Ok(Command::Error { reason }) = command::parse(body) {
            return Err(Error::PeerError { reason: printable(reason) });
        }
        match stage {
            ClientStage::Welcome => {
                let shared =
                    self.initiate(after_name(body, b"\x07WELCOME", "WELCOME")?, ours, out)?;
                self.stage = ClientStage::Ready(shared);
                Ok(Step::Wait)
            }
            ClientStage::Ready(shared) => {
                let ready = after_name(body, b"\x05READY", "READY")?;
                self.read_ready(ready, shared, ours, minor)
            }
            ClientStage::Over => {
                Err(Error::malformed("CURVE handshake", "a command after its end"))
            }
        }
    }

    /// Reads a WELCOME and appends our INITIATE.
    fn initiate(
        &self,
        mut welcome: &[u8],
        ours: Ours<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Shared, Error> {
        let ClientSide { keys, server, token, random } = &*self.side;
        let secret = &self.ephemeral;
        let long: [u8; 16] = field(&mut welcome)?;
        let opened = Shared::new(*server, secret).open(&nonce(b"WELCOME-", &long), welcome);
        let Some(opened) = opened else { return Err(Error::Unopened { command: "WELCOME" }) };
        let mut text = &*opened;
        let theirs = PublicKey::from_bytes(field(&mut text)?)
            .map_err(|error| Error::malformed("WELCOME command", error.to_string()))?;
        let cookie: [u8; COOKIE_BYTES] = field(&mut text)?;
        if !text.is_empty() {
            return Err(Error::malformed("WELCOME command", "more than a key and a cookie"));
        }

        let long: [u8; 16] = bytes(*random);
        let mut vouch = Vec::new();
        Shared::new(theirs, keys.secret()).seal(
            &nonce(b"VOUCH---", &long),
            &[secret.public_key().as_bytes(), server.as_bytes()],
            &mut vouch,
        );
        let mut properties = Vec::new();
        ours.put_properties(&mut properties);
        if let Some(token) = token {
            metadata::put(&mut properties, TOKEN, token.expose());
        }
        let short = INITIATE_NONCE.to_be_bytes();
        let shared = Shared::new(theirs, secret);
        let public = keys.public();
        let parts: [&[u8]; 4] = [public.as_bytes(), &long, &vouch, &properties];
        let mut boxed = Vec::new();
        shared.seal(&nonce(b"CurveZMQINITIATE", &short), &parts, &mut boxed);
        command::put(out, "INITIATE", &[&cookie, &short, &boxed]);
        Ok(shared)
    }

    fn read_ready(
        &self,
        mut ready: &[u8],
        shared: Shared,
        ours: Ours<'_>,
        minor: Minor,
    ) -> Result<Step, Error> {
        let short = field(&mut ready)?;
        let Some(text) = shared.open(&nonce(b"CurveZMQREADY---", &short), ready) else {
            return Err(Error::Unopened { command: "READY" });
        };
        let peer = read_peer(&text, ours.socket_type, minor, Some(self.side.server))?;
        let sealer = Sealer::new(&shared, Side::Client, INITIATE_NONCE);
        let opener = Opener::new(&shared, Side::Server, u64::from_be_bytes(short));
        Ok(Step::Done(Box::new(Done { peer, boxes: Some((sealer, opener)) })))
    }
}

/// Returns the part after a command's name.
fn after_name<'a>(body: &'a [u8], name: &[u8], wanted: &'static str) -> Result<&'a [u8], Error> {
    body.strip_prefix(name).ok_or_else(|| {
        let found = match command::parse(body) {
            Ok(other) => format!("{} where {wanted} should be", other.name()),
            Err(_) => format!("no {wanted}"),
        };
        Error::malformed("CURVE handshake", found)
    })
}
