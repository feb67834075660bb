//! The gate of all sockets: asks the directory about a peer, and logs it.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use zafka_identity::{
    Admission, Claims, Clock, Directory, Issuer, KeySet, Leased, Refusal, TokenError, claimed_end,
    shown, verify,
};
use zafka_sockets::gate::{Access, Gate, Presented, Process, Verdict};
use zafka_zmtp::Token;
use zafka_zmtp::curve::PublicKey;

use super::audit::{self, Audit, until_text};
use crate::config::IdentityConfig;
use crate::key_folder::Found;

/// Lets peers in, for all routes.
#[derive(Debug)]
pub struct Identities {
    directory: Mutex<Directory>,
    /// The issuers whose tokens are taken. Verified by their keys outside of the directory's lock.
    issuers: RwLock<Vec<Issuer>>,
    /// For each issuer: a token has named a key that is not known.
    unknown_key: Vec<Notify>,
    skew: Duration,
    /// Keys that are known whatever the folder says.
    servers: Vec<(PublicKey, Claims)>,
    ends: watch::Sender<u64>,
    audit: Audit,
}

impl Identities {
    /// No peer is known yet but the servers that routes connect to.
    pub fn new(config: &IdentityConfig) -> Self {
        let (max_lease, skew) = (config.max_lease, config.clock_skew);
        let mut directory = Directory::new(config.rules.clone(), max_lease, skew);
        directory.set_keys(config.servers.iter().cloned());
        Self {
            directory: Mutex::new(directory),
            issuers: RwLock::new(config.issuers.iter().map(|one| one.issuer.clone()).collect()),
            unknown_key: config.issuers.iter().map(|_| Notify::new()).collect(),
            skew,
            servers: config.servers.clone(),
            ends: watch::Sender::new(0),
            audit: Audit::default(),
        }
    }

    /// Takes the new content of the folder; a peer that is in and whose claims changed is closed.
    pub fn take(&self, found: Found) {
        for problem in &found.problems {
            warn!(problem, "a file in the folder of keys is not used");
        }
        let keys = self.servers.iter().cloned().chain(found.keys);
        let (known, ended) = {
            let mut directory = self.directory.lock();
            let ended = directory.set_keys(keys);
            (directory.keys(), ended)
        };
        self.tell_ended(&ended, "its key file changed");
        info!(known, ended = ended.len(), "the keys that are known were read");
    }

    /// Takes the keys that an issuer has from now on. Leases that its tokens gave go on.
    pub fn set_issuer_keys(&self, index: usize, keys: &Arc<KeySet>) {
        if let Some(issuer) = self.issuers.write().get_mut(index) {
            issuer.keys = Arc::clone(keys);
        }
    }

    /// Waits until a token has named a key that this issuer is not known to have.
    pub async fn unknown_key(&self, index: usize) {
        match self.unknown_key.get(index) {
            Some(unknown_key) => unknown_key.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the leases that are over; who has them is closed.
    pub fn end_leases(&self) {
        let over = self.directory.lock().end_leases(clock());
        self.tell_ended(&over, "its lease is over");
    }

    /// Closes the peers of these admissions, which have ended.
    fn tell_ended(&self, ended: &[Arc<Admission>], reason: &str) {
        audit::ended(ended, reason);
        if !ended.is_empty() {
            self.ends.send_modify(|ends| *ends += 1);
        }
    }

    /// Decides on a key whose owner has proven it and may show a token.
    fn admit_key(&self, key: PublicKey, token: Option<&Token>) -> Result<LetIn, Refusal> {
        let clock = clock();
        let token = token.map(Token::expose);
        // What a stranger shows is taken apart before others are kept waiting.
        let token = token.map(|token| (token, claimed_end(token)));
        let wants = |end: Option<i64>| self.directory.lock().wants_token(&key, end, clock);
        let token = token.filter(|(_, end)| wants(*end)).map(|(token, _)| token);
        let Some(token) = token else {
            return self.directory.lock().admit(key, clock).map(LetIn::Admitted);
        };
        let verified = verify(token, &key, &self.issuers.read(), clock.wall, self.skew);
        let mut directory = self.directory.lock();
        let refusal = match verified {
            Ok(verified) => match directory.lease(key, &verified, clock) {
                Ok(leased) => return Ok(LetIn::Leased(leased)),
                Err(refusal) => refusal,
            },
            Err(error) => Refusal::Token(error),
        };
        if let Refusal::Token(TokenError::UnknownKey(index)) = refusal
            && let Some(unknown_key) = self.unknown_key.get(index)
        {
            unknown_key.notify_one();
        }
        // A lease that lives lets its key in, whatever is shown with it.
        directory.leased(&key, clock).map(LetIn::Admitted).ok_or(refusal)
    }
}

impl Gate for Identities {
    fn admit(&self, presented: &Presented<'_>) -> Verdict {
        let outcome = match (presented.peer.key, presented.process) {
            (Some(key), _) => self.admit_key(key, presented.peer.token.as_ref()),
            (None, Some(Process { uid, gid })) => {
                Ok(LetIn::Admitted(self.directory.lock().admit_process(uid, gid)))
            }
            (None, None) => Ok(LetIn::Admitted(self.directory.lock().admit_nobody())),
        };
        let admission = match outcome {
            Ok(LetIn::Admitted(admission)) => admission,
            Ok(LetIn::Leased(leased)) => {
                if leased.is_renewal {
                    self.audit.renewed(&leased.admission);
                }
                self.tell_ended(leased.ended.as_slice(), "its renewed lease has other rights");
                leased.admission
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                self.audit.refused(presented, &reason);
                let again = refusal.may_pass();
                return if again { Verdict::Later(reason) } else { Verdict::Refused(reason) };
            }
        };
        self.audit.admitted(presented, &admission);
        Verdict::Admitted(Arc::new(Admitted(admission)))
    }

    fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }
}

/// The way a peer was let in.
enum LetIn {
    /// By what was known of it.
    Admitted(Arc<Admission>),
    /// By its token.
    Leased(Leased),
}

/// The time in s since the epoch.
pub fn wall_clock() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(wall).unwrap_or(i64::MAX)
}

/// The time by both clocks.
fn clock() -> Clock {
    Clock { now: Instant::now(), wall: wall_clock() }
}

/// The access of a peer.
#[derive(Debug)]
struct Admitted(Arc<Admission>);

impl Access for Admitted {
    fn may_read(&self, topic: &str) -> bool {
        self.0.grant.may_read(topic)
    }

    fn may_write(&self, topic: &str) -> bool {
        self.0.grant.may_write(topic)
    }

    fn may_write_something(&self) -> bool {
        self.0.grant.may_write_something()
    }

    fn holds(&self) -> bool {
        self.0.holds()
    }

    fn subject(&self) -> Option<&str> {
        self.0.claims.as_deref().map(Claims::subject)
    }

    fn until(&self) -> Option<i64> {
        self.0.until().map(|seconds| seconds.saturating_mul(1000))
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        let subject = self.0.claims.as_deref().map(Claims::subject);
        let subject = subject.map(|subject| ("X-Zafka-Subject", shown(subject)));
        let until = until_text(&self.0).map(|until| ("X-Zafka-Until", until));
        subject.into_iter().chain(until).collect()
    }
}
