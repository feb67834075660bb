//! The partitions of a session: taken up, given back, lost, set to another offset.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use tracing::{error, info, warn};

use super::session::Session;
use super::watch::Watch;
use super::{Command, Reset};
use crate::assignment::{Assignment, Positions, RevokeDone, SourceEvent};
use crate::client::Part;
use crate::commits::Order;
use crate::config::OnOutOfRange;
use crate::fetcher::Fetcher;
use crate::lookup::{Ask, Begin};
use crate::topics::{Listing, TopicMap};

/// How long after the route's own `revoke_timeout` its answer is waited for.
const REVOKE_SLACK: Duration = Duration::from_secs(1);
/// How long the commit of revoked partitions may take.
const REVOKE_COMMIT: Duration = Duration::from_secs(5);

/// Partitions that the group wants back.
struct Revoking {
    id: u64,
    parts: Vec<Part>,
    assignments: Vec<Arc<Assignment>>,
    deadline: Instant,
    committing: bool,
}

/// Partitions whose begin is being looked up.
struct TakeUp {
    parts: Vec<Part>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Default)]
pub(super) struct Partitions {
    held: BTreeMap<Part, Arc<Assignment>>,
    take_ups: HashMap<u64, TakeUp>,
    revoking: Vec<Revoking>,
    topics: TopicMap,
    watch: Watch,
}

impl Partitions {
    pub(super) fn handle(&mut self, session: &mut Session<'_>, command: Command) -> Result<(), String> {
        match command {
            Command::Commit(positions) if session.source.config.group.is_some() => {
                // The commit thread lives as long as its orders' sender.
                let _ = session.orders.send(Order::Commit(positions));
            }
            Command::SetBack(assignment) if session.source.config.group.is_some() => {
                // As above.
                let _ = session.orders.send(Order::SetBack(assignment));
            }
            Command::Commit(_) | Command::SetBack(_) | Command::Close(_) => {}
            Command::Drained { id, positions } => self.drained(session, id, positions),
            Command::Committed { id } => self.release(session, id),
            Command::OutOfRange { assignment, from, reason } => {
                return self.out_of_range(session, assignment, from, &reason);
            }
            Command::Elsewhere { assignment, from, to, why } => {
                return self.elsewhere(session, assignment, from, to, why);
            }
            Command::ResetTo { assignment, from, to, why } => self.reset(session, assignment, from, to, why),
            Command::TooOld(reason) => return self.fetch_by_librdkafka(session, &reason),
            Command::Ends(ends) => self.watch.ends(session, ends),
            Command::Listed(listing) => self.listed(session, listing),
            Command::TakenUp { id, begins } => self.taken_up(session, id, begins),
        }
        Ok(())
    }

    /// Subscribes to what there is; without a group, takes up what is new and lets go of what is no more.
    pub(super) fn listed(&mut self, session: &mut Session<'_>, listing: Listing) {
        for (topic, fault) in session.source.board.set_missing(listing.missing) {
            warn!(route = session.source.config.route, "topic \"{topic}\": {fault}");
        }
        let known = std::mem::replace(&mut self.topics, listing.topics);
        if session.source.config.group.is_some() {
            if !known.keys().eq(self.topics.keys()) {
                self.subscribe(session);
            }
            return;
        }
        let gone: Vec<Part> =
            self.held.keys().filter(|(topic, _)| !self.topics.contains_key(topic)).cloned().collect();
        if !gone.is_empty() {
            self.lost(session, &gone);
        }
        let mut new = Vec::new();
        for (topic, count) in &self.topics {
            let before = known.get(topic).copied().unwrap_or(0);
            new.extend((before..*count).map(|partition| (topic.clone(), partition)));
        }
        if new.is_empty() {
            session.source.board.set_assigned(self.take_ups.is_empty());
        } else {
            self.assign(session, new);
        }
    }

    fn subscribe(&self, session: &Session<'_>) {
        let names: Vec<&str> = self.topics.keys().map(String::as_str).collect();
        info!(route = session.source.config.route, topics = ?names, "subscribing");
        if names.is_empty() {
            session.client.unsubscribe();
        } else if let Err(error) = session.client.subscribe(&names) {
            session.client.context().report(&format!("subscribing: {error}"));
        }
    }

    /// The group gives partitions, or none.
    pub(super) fn assign(&mut self, session: &mut Session<'_>, parts: Vec<Part>) {
        if parts.is_empty() {
            return self.hold(session, Vec::new());
        }
        session.source.board.set_assigned(false);
        let (id, cancelled) = (session.next_id(), Arc::new(AtomicBool::new(false)));
        let ask = Ask::TakeUp { id, parts: parts.clone(), cancelled: Arc::clone(&cancelled) };
        self.take_ups.insert(id, TakeUp { parts, cancelled });
        // The look-up thread lives as long as its questions' sender.
        let _ = session.questions.send(ask);
    }

    fn taken_up(&mut self, session: &mut Session<'_>, id: u64, begins: Vec<Begin>) {
        let Some(take_up) = self.take_ups.remove(&id) else { return };
        let begins = begins.into_iter().filter(|begin| take_up.parts.contains(&begin.part)).collect();
        self.hold(session, begins);
    }

    fn hold(&mut self, session: &mut Session<'_>, begins: Vec<Begin>) {
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut assignments = Vec::with_capacity(begins.len());
        for Begin { part, start, committed } in begins {
            let topic = names.entry(part.0.clone()).or_insert_with(|| Arc::from(part.0.as_str()));
            let assignment = Assignment::new(Arc::clone(topic), part.1, start, committed);
            self.held.insert(part, Arc::clone(&assignment));
            assignments.push(assignment);
        }
        let positions: Positions =
            assignments.iter().map(|assignment| (Arc::clone(assignment), assignment.start)).collect();
        if !assignments.is_empty() {
            session.tell(SourceEvent::Assigned(assignments));
        }
        if let Err(reason) = session.fetcher.take(&positions) {
            session.client.context().report(&format!("taking up partitions: {reason}"));
        }
        session.source.board.set_assigned(self.take_ups.is_empty());
    }

    /// Those of `parts` that are held. What of them is still being looked up is forgotten.
    fn among(&mut self, parts: &[Part]) -> Vec<Arc<Assignment>> {
        for take_up in self.take_ups.values_mut() {
            take_up.parts.retain(|part| !parts.contains(part));
            if take_up.parts.is_empty() {
                take_up.cancelled.store(true, Ordering::Release);
            }
        }
        self.take_ups.retain(|_, take_up| !take_up.parts.is_empty());
        parts.iter().filter_map(|part| self.held.get(part).cloned()).collect()
    }

    /// The group wants partitions back: they go once they are drained and committed, or after the route's time.
    pub(super) fn revoke(&mut self, session: &mut Session<'_>, parts: &[Part]) {
        let assignments = self.among(parts);
        for assignment in &assignments {
            assignment.set_revoking();
        }
        let id = session.next_id();
        let deadline = Instant::now() + session.source.config.revoke_timeout + REVOKE_SLACK;
        let parts = parts.iter().filter(|part| self.held.contains_key(*part)).cloned().collect();
        let (told, answer) = (assignments.clone(), session.source.commands.0.clone());
        let nothing = assignments.is_empty();
        self.revoking.push(Revoking { id, parts, assignments, deadline, committing: false });
        if nothing {
            self.release(session, id);
        } else {
            session.tell(SourceEvent::Revoked { assignments: told, done: RevokeDone::new(id, answer) });
        }
    }

    fn drained(&mut self, session: &Session<'_>, id: u64, positions: Positions) {
        let Some(revoking) =
            self.revoking.iter_mut().find(|revoking| revoking.id == id && !revoking.committing)
        else {
            return;
        };
        revoking.committing = true;
        revoking.deadline = Instant::now() + REVOKE_COMMIT;
        let order = Order::Final { id, positions, deadline: revoking.deadline };
        // The commit thread lives as long as its orders' sender.
        let _ = session.orders.send(order);
    }

    /// Lets go what was not answered in time.
    pub(super) fn look_at_revoking(&mut self, session: &mut Session<'_>) {
        let now = Instant::now();
        let late: Vec<u64> = self
            .revoking
            .iter()
            .filter(|revoking| now >= revoking.deadline)
            .map(|revoking| revoking.id)
            .collect();
        for id in late {
            warn!(
                route = session.source.config.route,
                "revoked partitions were not drained and committed in time"
            );
            self.release(session, id);
        }
    }

    fn release(&mut self, session: &mut Session<'_>, id: u64) {
        let Some(index) = self.revoking.iter().position(|revoking| revoking.id == id) else { return };
        let revoking = self.revoking.swap_remove(index);
        self.forget(session, &revoking.parts, &revoking.assignments);
    }

    fn forget(&mut self, session: &mut Session<'_>, parts: &[Part], assignments: &[Arc<Assignment>]) {
        for assignment in assignments {
            assignment.set_gone();
        }
        self.held.retain(|part, _| !parts.contains(part));
        session.fetcher.release(assignments);
    }

    /// Partitions are gone: nothing more is committed for them.
    pub(super) fn lost(&mut self, session: &mut Session<'_>, parts: &[Part]) {
        let assignments = self.among(parts);
        let parts: Vec<Part> = parts.iter().filter(|part| self.held.contains_key(*part)).cloned().collect();
        self.revoking.retain_mut(|revoking| {
            revoking.parts.retain(|part| !parts.contains(part));
            !revoking.parts.is_empty()
        });
        self.forget(session, &parts, &assignments);
        if !assignments.is_empty() {
            session.tell(SourceEvent::Lost(assignments));
        }
    }

    fn out_of_range(
        &mut self,
        session: &mut Session<'_>,
        assignment: Arc<Assignment>,
        from: i64,
        reason: &str,
    ) -> Result<(), String> {
        if !assignment.is_active() {
            return Ok(());
        }
        let (topic, partition) = (&assignment.topic, assignment.partition);
        error!(route = session.source.config.route, %topic, partition, from, reason, "offset out of range");
        if session.source.config.on_out_of_range == OnOutOfRange::Stop {
            return Err(format!(
                "{topic}/{partition}: the log has no offset {from}: {reason} (on_out_of_range = \"stop\")"
            ));
        }
        self.elsewhere(session, assignment, from, None, Reset::OutOfRange)
    }

    /// Goes on at `to`, or at the earliest offset once that is known.
    fn elsewhere(
        &mut self,
        session: &mut Session<'_>,
        assignment: Arc<Assignment>,
        from: i64,
        to: Option<i64>,
        why: Reset,
    ) -> Result<(), String> {
        if !assignment.is_active() {
            return Ok(());
        }
        let (topic, partition) = (&assignment.topic, assignment.partition);
        let stop = session.source.config.on_out_of_range == OnOutOfRange::Stop;
        match to {
            Some(to) if stop => {
                return Err(format!(
                    "{topic}/{partition}: the log was cut at {to}, before {from} (on_out_of_range = \"stop\")"
                ));
            }
            Some(to) => self.reset(session, assignment, from, to, why),
            None => {
                // The look-up thread lives as long as its questions' sender.
                let _ = session.questions.send(Ask::Earliest { assignment, from, why });
            }
        }
        Ok(())
    }

    fn reset(
        &mut self,
        session: &mut Session<'_>,
        assignment: Arc<Assignment>,
        from: i64,
        to: i64,
        why: Reset,
    ) {
        if !assignment.is_active() {
            return;
        }
        let skipped = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        error!(
            route = session.source.config.route, topic = %assignment.topic, partition = assignment.partition,
            from, to, skipped, "{}", why.told()
        );
        session.source.board.offset_resets.add(1);
        session.source.board.records_skipped.add(skipped);
        session.tell(SourceEvent::Reset { assignment: Arc::clone(&assignment), from, to });
        assignment.set_position(to);
        if let Err(reason) = session.fetcher.seek(&assignment, to) {
            session.client.context().report(&format!("going on after a reset: {reason}"));
        }
    }

    /// The fast fetcher cannot be used: librdkafka takes over where it was.
    fn fetch_by_librdkafka(&mut self, session: &mut Session<'_>, reason: &str) -> Result<(), String> {
        if !matches!(session.fetcher, Fetcher::Fast(_)) {
            return Ok(());
        }
        info!(route = session.source.config.route, reason, "fetching by librdkafka");
        let held: Vec<_> = self.held.values().cloned().collect();
        session.fetcher.release(&held);
        session.use_librdkafka().map_err(|error| format!("no thread to fetch by librdkafka: {error}"))?;
        let active = held.into_iter().filter(|assignment| assignment.is_active());
        let positions: Positions =
            active.map(|assignment| (Arc::clone(&assignment), assignment.position())).collect();
        session.fetcher.take(&positions)?;
        // They were paused.
        session.resume(&positions)
    }

    /// Looks for partitions that stand still.
    pub(super) fn look_for_stalls(&mut self, session: &Session<'_>) {
        self.watch.look(session, &self.held);
    }

    /// Nothing more is handed out.
    pub(super) fn stop_reading(&self) {
        for assignment in self.held.values() {
            assignment.set_revoking();
        }
    }

    /// Forgets everything, before the client is closed.
    pub(super) fn release_all(&mut self, session: &mut Session<'_>) {
        for take_up in self.take_ups.values() {
            take_up.cancelled.store(true, Ordering::Release);
        }
        let held: Vec<_> = std::mem::take(&mut self.held).into_values().collect();
        for assignment in &held {
            assignment.set_gone();
        }
        session.fetcher.release(&held);
    }
}
