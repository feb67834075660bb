//! The gate of all sockets: asks the directory about a peer, and logs it.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

mod answers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};
use zafka_bridge::{IdentityPlaces, PeerLease, Principals};
use zafka_identity::{
    Admission, Claims, Clock, Directory, Issuer, KeySet, LeaseChange, LeaseView, Leased, Refusal,
    Revocation, Revoked, SteadyClock, TokenError, TooManyRevocations, claimed_end, shown, verify,
};
use zafka_oidc::Secret;
use zafka_sockets::gate::{Access, Gate, Presented, Process, TakePlace, Verdict};
use zafka_zmtp::Token;
use zafka_zmtp::curve::PublicKey;

use super::audit::{self, AskedAt, Audit, DOOR, until_text};
use super::counts::{Done, IdentityCounts, IdentityStatus};
use super::health::Health;
use super::introspected::Introspected;
use super::kafka_rights::KafkaRights;
use super::peer_tokens::PeerTokens;
use crate::config::IdentityConfig;
use crate::key_folder::Found;

/// Files that are not used of which the log tells each, whenever any file changes.
const PROBLEMS_TOLD: usize = 20;

/// Lets peers in, for all routes.
#[derive(Debug)]
pub struct Identities {
    directory: Mutex<Directory>,
    /// The issuers whose tokens are taken. Verified by their keys outside of the directory's lock.
    issuers: RwLock<Vec<Issuer>>,
    /// Signals for each issuer that a token has named an unknown key.
    unknown_key: Vec<Notify>,
    skew: Duration,
    /// Keys that are known besides those of the folder.
    servers: Vec<(PublicKey, Claims)>,
    ends: watch::Sender<u64>,
    audit: Audit,
    pub(super) counts: IdentityCounts,
    /// Asks Kafka what peers may do, if rules say so.
    kafka: Option<KafkaRights>,
    /// One for each issuer that has to say whether its tokens are active; `None` for the others.
    introspected: Vec<Option<Introspected>>,
    /// The tokens of peers in whose names records are written, if they are exchanged.
    tokens: Option<PeerTokens>,
    health: Arc<Health>,
}

impl Identities {
    /// No peer is known yet but the servers that routes connect to.
    pub fn new(config: &IdentityConfig) -> Self {
        // The clocks as they are at the start.
        LazyLock::force(&START);
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
            counts: IdentityCounts::new(&config.issuers),
            kafka: config.exchange.as_ref().map(KafkaRights::new),
            introspected: (config.issuers.iter())
                .map(|one| one.introspection.as_ref().map(Introspected::new))
                .collect(),
            tokens: config.exchange.as_ref().map(PeerTokens::new),
            health: Arc::default(),
        }
    }

    /// The part of its health that others see.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Returns the reasons why it keeps peers out that did nothing wrong.
    pub fn kept_out(&self) -> Vec<String> {
        let unconfirmed = self.introspected.iter().enumerate().filter_map(|(index, asked)| {
            let peers = asked.as_ref().map(Introspected::kept_out).filter(|peers| *peers > 0)?;
            Some(self.counts.not_confirmed(index, peers))
        });
        let keys = self.counts.kept_out().into_iter();
        keys.chain(unconfirmed).chain(self.health.reasons()).collect()
    }

    /// Takes the new content of the folder; a peer that is in and whose claims changed is closed.
    pub fn take(&self, found: Found) {
        let told = found.problems.iter().take(PROBLEMS_TOLD);
        told.for_each(|problem| warn!(problem, "a file in the folder of keys is not used"));
        let more = found.problems.len().saturating_sub(PROBLEMS_TOLD);
        if more > 0 {
            warn!(more, "files in the folder of keys are not used");
        }
        let Found { keys: in_files, problems } = found;
        let keys = self.servers.iter().cloned().chain(in_files);
        let (known, ended) = {
            let mut directory = self.directory.lock();
            let ended = directory.set_keys(keys);
            (directory.keys(), ended)
        };
        self.health.set_files(&problems);
        self.tell_ended(&ended, "its key file changed");
        info!(known, ended = ended.len(), "the keys that are known were read");
    }

    /// Takes the keys that an issuer has from now on. Leases that its tokens gave remain.
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

    /// The audit lines.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Keeps the token of a lease that it has just given. The directory is locked meanwhile.
    fn keep_token(
        &self,
        key: PublicKey,
        leased: &Result<Leased, Refusal>,
        token: impl FnOnce() -> Secret,
    ) {
        if let (Some(tokens), Ok(leased)) = (&self.tokens, leased) {
            tokens.handle_leased(key, leased.change, token());
        }
    }

    /// Ends the leases that are over, and closes their owners' connections.
    pub fn end_leases(&self) {
        let over = self.directory.lock().end_leases(clock());
        self.tell_ended(&over, "its lease is over");
    }

    /// Closes the peers of these admissions, which have ended.
    fn tell_ended(&self, ended: &[Arc<Admission>], reason: &str) {
        if !ended.is_empty() {
            self.forget_ended(ended);
            self.ends.send_modify(|ends| *ends += 1);
        }
        count(&self.counts.ended, ended.len());
        audit::ended(ended, reason);
    }

    /// The admission of a key's lease, if it lives.
    pub fn leased(&self, key: &PublicKey) -> Option<Arc<Admission>> {
        self.directory.lock().leased(key, clock())
    }

    /// Enrols a key by a token that its owner, at this address, has sent.
    ///
    /// # Errors
    /// The token gives no lease; and by which the log has more about it.
    pub fn enrol(
        &self,
        peer: &str,
        key: PublicKey,
        token: &Token,
    ) -> Result<Arc<Admission>, (Refusal, String)> {
        let (place, clock) = (AskedAt { route: DOOR, peer }, clock());
        let secret = || to_secret(token.expose());
        let verified = verify(token.expose(), &key, &self.issuers.read(), clock.wall, self.skew);
        let outcome = match &verified {
            Ok(verified) => {
                let mut directory = self.directory.lock();
                let leased = directory.enrol(key, verified, clock);
                self.keep_token(key, &leased, secret);
                leased
            }
            Err(error) => Err(Refusal::Token(*error)),
        };
        let outcome = match (outcome, &verified) {
            (Err(refusal), Ok(verified)) => Err(self.ask_about(refusal, key, verified, secret)),
            (outcome, _) => outcome,
        };
        match outcome {
            Ok(leased) => {
                if leased.admission.set_enrolled() && leased.change != LeaseChange::Renewed {
                    count(&self.counts.enrolled, 1);
                    self.audit.admitted(place, &leased.admission);
                }
                self.tell_leased(&leased);
                Ok(leased.admission)
            }
            Err(refusal) => {
                self.ask_for_key(refusal);
                self.counts.refuse(refusal);
                let reference = format!("{:08x}", rand::random::<u32>());
                self.audit.refused(place, Some(key), &refusal.to_string(), Some(&reference));
                Err((refusal, reference))
            }
        }
    }

    /// Counts of all that the gate and the door did, and of what is known now.
    pub fn status(&self) -> IdentityStatus {
        let mut status = self.counts.status();
        status.health = self.health.status();
        status.kafka = self.kafka.as_ref().map(|kafka| self.counts.kafka.status(kafka));
        if let Some(tokens) = &self.tokens {
            (status.identities, status.counters.identities_refused) = tokens.places().counts();
        }
        let directory = self.directory.lock();
        status.known_keys = directory.keys();
        status.leases = directory.leases();
        status.revocations = directory.revocations();
        status
    }

    /// All leases, in no order.
    pub fn leases(&self) -> Vec<LeaseView> {
        self.directory.lock().views(clock())
    }

    /// Keeps out the peers that are revoked, for at least that long, and closes their connections.
    ///
    /// # Errors
    /// There are many revocations already.
    pub fn revoke(
        &self,
        what: &Revoked,
        lasts: Duration,
        user: Option<u32>,
    ) -> Result<Done, TooManyRevocations> {
        let clock = clock();
        let lasts = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX);
        let until = clock.wall.saturating_add(lasts);
        let Revocation { ended, until } = self.directory.lock().revoke(what, until, clock)?;
        // One of each is in the list.
        let connections = ended.iter().map(|admission| Arc::strong_count(admission) - 1).sum();
        let done = Done { keys: ended.len(), connections, until };
        count(&self.counts.revoked, ended.len());
        audit::revoked(what, &done, user);
        self.tell_ended(&ended, "it was revoked");
        Ok(done)
    }

    /// Logs the effect of a token on a lease.
    fn tell_leased(&self, leased: &Leased) {
        if leased.change == LeaseChange::Renewed {
            count(&self.counts.renewed, 1);
            self.audit.renewed(&leased.admission);
        }
        self.tell_ended(leased.ended.as_slice(), "its renewed lease has other rights");
    }

    /// Has an issuer's keys fetched, if a token has named one that is not known.
    fn ask_for_key(&self, refusal: Refusal) {
        if let Refusal::Token(TokenError::UnknownKey(index)) = refusal
            && let Some(unknown_key) = self.unknown_key.get(index)
        {
            unknown_key.notify_one();
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
        let secret = || to_secret(token);
        let verified = verify(token, &key, &self.issuers.read(), clock.wall, self.skew);
        let mut directory = self.directory.lock();
        let refusal = match verified {
            Ok(verified) => {
                let leased = directory.lease(key, &verified, clock);
                self.keep_token(key, &leased, secret);
                match leased {
                    Ok(leased) => return Ok(LetIn::Leased(leased)),
                    Err(refusal) => self.ask_about(refusal, key, &verified, secret),
                }
            }
            Err(error) => Refusal::Token(error),
        };
        self.ask_for_key(refusal);
        // A live lease lets its key in, with any token.
        directory.leased(&key, clock).map(LetIn::Admitted).ok_or(refusal)
    }
}

impl Gate for Identities {
    fn admit(&self, presented: &Presented<'_>, take_place: TakePlace<'_>) -> Verdict {
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
                self.tell_leased(&leased);
                leased.admission
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                if !refusal.is_on_its_way() {
                    self.counts.refuse(refusal);
                    self.audit.refused(presented.into(), presented.peer.key, &reason, None);
                }
                let again = refusal.may_pass();
                return if again { Verdict::Later(reason) } else { Verdict::Refused(reason) };
            }
        };
        let access = Admitted(admission);
        if !take_place(&access) {
            return Verdict::NoPlace;
        }
        count(&self.counts.admitted, 1);
        self.audit.admitted(presented.into(), &access.0);
        Verdict::Admitted(Arc::new(access))
    }

    fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }
}

impl Principals for Identities {
    fn lease(&self, key: &PublicKey) -> Option<PeerLease> {
        self.tokens.as_ref()?.lease(key)
    }

    fn places(&self) -> Arc<IdentityPlaces> {
        let places = self.tokens.as_ref().map(|tokens| Arc::clone(tokens.places()));
        places.unwrap_or_else(|| Arc::new(IdentityPlaces::new(0)))
    }

    fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }
}

/// Returns a token as a secret, to be kept or sent.
pub fn to_secret(token: &[u8]) -> Secret {
    Secret::new(String::from_utf8_lossy(token))
}

/// The way a peer was let in.
enum LetIn {
    /// Admitted by what was known of it.
    Admitted(Arc<Admission>),
    /// Admitted by its token.
    Leased(Leased),
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// The time in s since the epoch.
pub fn wall_clock() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(wall).unwrap_or(i64::MAX)
}

/// The time by both clocks, of which the wall clock is not set back.
fn clock() -> Clock {
    START.judge(read_clocks())
}

/// Returns the time by which the wall clock was set back since the start.
pub fn clock_behind() -> Duration {
    START.behind(read_clocks())
}

fn read_clocks() -> Clock {
    Clock { now: Instant::now(), wall: wall_clock() }
}

/// The clocks at the first look.
static START: LazyLock<SteadyClock> = LazyLock::new(|| SteadyClock::new(read_clocks()));

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

    fn bounded_as(&self) -> Option<String> {
        // Whoever has tokens can have many keys. Those of files are the operator's, and each is
        // bounded by itself.
        self.0.until()?;
        let claims = self.0.claims.as_deref()?;
        // Neither has a line break in it.
        Some(format!("{}\n{}", claims.issuer(), claims.subject()))
    }

    fn key(&self) -> Option<PublicKey> {
        self.0.key
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
