//! The gate of all sockets: asks the directory who a peer is, and tells of it.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{info, warn};
use zafka_identity::{Admission, Claims, Directory, shown};
use zafka_sockets::gate::{Access, Gate, Presented, Verdict};
use zafka_zmtp::curve::PublicKey;

use crate::config::IdentityConfig;
use crate::key_folder::Found;

/// Audit lines in a second and of a kind, beyond which they are counted.
const LINES: u32 = 20;

/// Who is let in, for all routes.
#[derive(Debug)]
pub struct Identities {
    directory: Mutex<Directory>,
    /// Keys that are known whatever the folder says.
    servers: Vec<(PublicKey, Claims)>,
    ends: watch::Sender<u64>,
    admitted: Mutex<LineCount>,
    refused: Mutex<LineCount>,
}

impl Identities {
    /// Nobody is known yet but the servers that routes connect to.
    pub fn new(config: &IdentityConfig) -> Self {
        let mut directory = Directory::new(config.rules.clone());
        directory.set_keys(config.servers.iter().cloned());
        Self {
            directory: Mutex::new(directory),
            servers: config.servers.clone(),
            ends: watch::Sender::new(0),
            admitted: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// Takes what the folder says from now on; who is in and has something else said of it is
    /// closed.
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
        for admission in &ended {
            let (key, subject) = (admission.key.map(tracing::field::display), admission.subject());
            info!(target: "zafka::audit", event = "ended", key, subject, reason = "its key file changed");
        }
        if !ended.is_empty() {
            self.ends.send_modify(|ends| *ends += 1);
        }
        info!(known, ended = ended.len(), "the keys that are known were read");
    }

    fn refuse(&self, presented: &Presented<'_>, reason: &str) {
        let Some(left_out) = self.refused.lock().next(Instant::now()) else { return };
        let (route, peer) = (presented.route, presented.address);
        let key = presented.peer.key.map(tracing::field::display);
        warn!(target: "zafka::audit", event = "refused", route, peer, key, reason, left_out);
    }
}

impl Gate for Identities {
    fn admit(&self, presented: &Presented<'_>) -> Verdict {
        let admission = {
            let mut directory = self.directory.lock();
            match (presented.peer.key, presented.process) {
                (Some(key), _) => directory.admit(key),
                (None, Some(process)) => Ok(directory.admit_process(process.uid, process.gid)),
                (None, None) => Ok(directory.admit_nobody()),
            }
        };
        match admission {
            Ok(admission) => {
                self.tell_admitted(presented, &admission);
                Verdict::Admitted(Arc::new(Admitted(admission)))
            }
            Err(refusal) => {
                self.refuse(presented, &refusal.to_string());
                Verdict::Later(refusal.to_string())
            }
        }
    }

    fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }
}

impl Identities {
    fn tell_admitted(&self, presented: &Presented<'_>, admission: &Admission) {
        let Some(left_out) = self.admitted.lock().next(Instant::now()) else { return };
        let (route, peer) = (presented.route, presented.address);
        let key = admission.key.map(tracing::field::display);
        let subject = shown(admission.subject());
        let issuer = admission.claims.as_deref().map(Claims::issuer);
        let grant = &admission.grant;
        let rules = format!("{:?}", grant.rules());
        info!(target: "zafka::audit", event = "admitted", route, peer, key, subject, issuer, rules, left_out);
        if grant.rules().is_empty() {
            warn!(target: "zafka::audit", event = "denied", route, peer, key, subject,
                reason = "no rule in [[identity.access]] means this peer");
        }
        if !grant.left_out().is_empty() {
            let entries = grant.left_out().join(", ");
            warn!(target: "zafka::audit", event = "denied", route, peer, key, subject, entries,
                reason = "these entries need a claim that can be a part of a topic's name");
        }
    }
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

    fn properties(&self) -> Vec<(&'static str, String)> {
        let subject = self.0.claims.as_deref().map(Claims::subject);
        subject.map(|subject| ("X-Zafka-Subject", shown(subject))).into_iter().collect()
    }
}

/// Bounds lines of one kind.
#[derive(Debug, Default)]
struct LineCount {
    second: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LineCount {
    /// How many lines were left out before this one; none if this one is to be left out.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_counted() {
        let (mut lines, now) = (LineCount::default(), Instant::now());
        let told = (0..LINES + 3).filter(|_| lines.next(now).is_some()).count();
        assert_eq!(told, LINES as usize);
        assert_eq!(lines.next(now + Duration::from_secs(1)), Some(3));
        assert_eq!(lines.next(now + Duration::from_secs(1)), Some(0));
    }
}
