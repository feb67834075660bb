//! The audit lines of the log (target `zafka::audit`): peers let in, kept out, renewed and ended.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tracing::{info, warn};
use zafka_identity::{Admission, Claims, Revoked, shown};
use zafka_sockets::Lines;
use zafka_sockets::gate::Presented;
use zafka_zmtp::curve::PublicKey;

use super::counts::Done;
use crate::time_text::time_text;

/// The name of the door in the log.
pub const DOOR: &str = "identity.bind";
/// Audit lines in a second and of a kind, beyond which they are counted.
const LINES: u32 = 20;

/// Logs peers, with a bound on lines of each kind that peers can cause.
#[derive(Debug, Default)]
pub struct Audit {
    admitted: Mutex<Lines<LINES>>,
    renewed: Mutex<Lines<LINES>>,
    refused: Mutex<Lines<LINES>>,
    not_answered: Mutex<Lines<LINES>>,
}

impl Audit {
    /// A lease that moved its end.
    pub fn renewed(&self, admission: &Admission) {
        let Some(left_out) = self.renewed.lock().next(Instant::now()) else { return };
        let key = admission.key.map(tracing::field::display);
        let (subject, until) = (shown(admission.subject()), until_text(admission));
        info!(target: "zafka::audit", event = "renewed", key, subject, until, left_out);
    }

    /// A peer that was let in, or whose key was enrolled.
    pub fn admitted(&self, place: AskedAt<'_>, admission: &Admission) {
        let Some(left_out) = self.admitted.lock().next(Instant::now()) else { return };
        let AskedAt { route, peer } = place;
        let key = admission.key.map(tracing::field::display);
        let subject = shown(admission.subject());
        let (issuer, token_id, until) =
            (issuer(admission), token_id(admission), until_text(admission));
        let grant = &admission.grant;
        let rules = format!("{:?}", grant.rules());
        info!(target: "zafka::audit", event = "admitted", route, peer, key, subject, issuer,
            token_id, until, rules, left_out);
        if grant.rules().is_empty() {
            warn!(target: "zafka::audit", event = "denied", route, peer, key, subject,
                reason = "no rule in [[identity.access]] means this peer");
        }
        if grant.has_nothing_of_kafka() {
            warn!(target: "zafka::audit", event = "denied", route, peer, key, subject,
                reason = "Kafka's ACLs allow it none of the topics of routes");
        } else if grant.lacks_kafka() {
            warn!(target: "zafka::audit", event = "denied", route, peer, key, subject,
                reason = "Kafka is asked only about a peer that shows a token");
        }
        if !grant.left_out().is_empty() {
            let entries = grant.left_out().join(", ");
            warn!(target: "zafka::audit", event = "denied", route, peer, key, subject, entries,
                reason = "these entries need a claim that can be a part of a topic's name");
        }
    }

    /// A peer about which Kafka or its issuer could not be asked. `holds`: true if the last answer
    /// still counts.
    pub fn not_answered(&self, key: &PublicKey, reason: &str, holds: bool) {
        let Some(left_out) = self.not_answered.lock().next(Instant::now()) else { return };
        warn!(target: "zafka::audit", event = "not_answered", %key, reason, holds, left_out);
    }

    /// A peer that was not let in, or whose key was not enrolled: then it got `reference`.
    pub fn refused(
        &self,
        place: AskedAt<'_>,
        key: Option<PublicKey>,
        reason: &str,
        reference: Option<&str>,
    ) {
        let Some(left_out) = self.refused.lock().next(Instant::now()) else { return };
        let AskedAt { route, peer } = place;
        let key = key.map(tracing::field::display);
        warn!(target: "zafka::audit", event = "refused", route, peer, key, reason, reference,
            left_out);
    }
}

/// The place where a peer asks.
#[derive(Clone, Copy, Debug)]
pub struct AskedAt<'a> {
    /// The route of the socket.
    pub route: &'a str,
    /// The peer's address.
    pub peer: &'a str,
}

impl<'a> From<&Presented<'a>> for AskedAt<'a> {
    fn from(presented: &Presented<'a>) -> Self {
        Self { route: presented.route, peer: presented.address }
    }
}

/// Logs a revocation by this user (a user id of the system).
pub fn revoked(what: &Revoked, done: &Done, user: Option<u32>) {
    let Done { keys, connections, until } = done;
    let (revoked, until) = (what.to_string(), time_text(*until));
    info!(target: "zafka::audit", event = "revoked", revoked, keys, connections, until, user);
}

/// Logs admissions that have ended.
pub fn ended(ended: &[Arc<Admission>], reason: &str) {
    for admission in ended {
        let key = admission.key.map(tracing::field::display);
        let (subject, issuer) = (shown(admission.subject()), issuer(admission));
        let token_id = token_id(admission);
        info!(target: "zafka::audit", event = "ended", key, subject, issuer, token_id, reason);
    }
}

/// The end of a lease as a text (RFC 3339).
pub fn until_text(admission: &Admission) -> Option<String> {
    time_text(admission.until()?)
}

fn issuer(admission: &Admission) -> Option<&str> {
    admission.claims.as_deref().map(Claims::issuer)
}

fn token_id(admission: &Admission) -> Option<String> {
    admission.claims.as_deref().and_then(Claims::token_id).map(shown)
}
