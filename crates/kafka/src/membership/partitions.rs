//! The partitions of a session: taken up, given back, lost, set to another offset.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use tracing::{error, info, warn};

use super::absent::{Absent, Patience};
use super::joining::Joining;
use super::lives::Lives;
use super::session::Session;
use super::take_up::TakeUp;
use super::watch::Watch;
use super::{Command, Reset};
use crate::assignment::{Assignment, Positions, RevokeDone, SourceEvent};
use crate::client::Part;
use crate::commits::Order;
use crate::config::{GroupProtocol, OnOutOfRange};
use crate::fetcher::Fetcher;
use crate::generation::{Due, Generation};
use crate::lookup::{Ask, Begin, Known, Open};
use crate::native::TopicId;
use crate::status::TakenUp;
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

#[derive(Default)]
pub(super) struct Partitions {
    held: BTreeMap<Part, Arc<Assignment>>,
    take_ups: BTreeMap<u64, TakeUp>,
    /// Whether it is known what is to be held, be it nothing.
    assigned: bool,
    joining: Joining,
    revoking: Vec<Revoking>,
    /// Whether everything is given back, as this session ends.
    leaving: bool,
    topics: TopicMap,
    absent: Absent,
    lives: Lives,
    watch: Watch,
}

impl Partitions {
    pub(super) fn handle(
        &mut self,
        session: &mut Session<'_>,
        command: Command,
    ) -> Result<(), String> {
        match command {
            Command::Commit(positions) if session.source.config.group.is_some() => {
                // The commit thread lives as long as its orders' sender.
                let _ = session.orders.send(Order::Commit(positions));
            }
            Command::SetBack(assignment) if session.source.config.group.is_some() => {
                // As above.
                let _ = session.orders.send(Order::SetBack(assignment));
            }
            Command::Commit(_) | Command::SetBack(_) => {}
            // The session's own.
            Command::Close(_) | Command::Standing { .. } | Command::OtherCluster(_) => {}
            Command::Drained { id, positions } => self.drained(session, id, positions),
            Command::Committed { id } => self.release(session, id),
            Command::OutOfRange { due, reason } => return self.out_of_range(session, due, &reason),
            Command::Elsewhere { due, to, why } => return self.elsewhere(session, due, to, why),
            Command::ResetTo { due, to, why } => self.reset(session, &due, to, why),
            Command::Restart(assignment, generation) => {
                self.restart(session, &assignment, generation)
            }
            Command::Broke(reason) => return Err(reason),
            Command::Hold(assignment) => self.hold_back(session, &assignment),
            Command::TooOld(reason) => return self.fetch_by_librdkafka(session, &reason),
            Command::TopicIds(ids) => return self.topic_ids(session, ids),
            Command::Ends(ends) => self.watch.ends(session, ends),
            Command::Listed(listing) => self.listed(session, listing),
            Command::TakenUp { id, begins, open } => self.taken_up(session, id, begins, open),
        }
        Ok(())
    }

    /// Subscribes to what there is; without a group, takes up what is new and lets go of what is no
    /// more.
    pub(super) fn listed(&mut self, session: &mut Session<'_>, listing: Listing) {
        session.lasting.listed(listing);
        let known = std::mem::replace(&mut self.topics, session.lasting.listing.topics.clone());
        if session.source.config.group.is_some() {
            if !known.keys().eq(self.topics.keys()) {
                self.subscribe(session);
            }
            if self.topics.is_empty() {
                // Who asks for nothing gets nothing.
                self.assigned = true;
            } else if known.is_empty() {
                self.not_assigned();
            }
        } else {
            self.listed_without_group(session);
        }
        self.ask_lives(session);
        self.show(session);
        // Once what came in their place shows as not taken up: in between the route would look
        // ready.
        for (topic, fault) in
            session.source.board.set_missing(session.lasting.listing.missing.clone())
        {
            warn!(route = session.source.config.route, "topic \"{topic}\": {fault}");
        }
    }

    fn listed_without_group(&mut self, session: &mut Session<'_>) {
        let known = self.held.keys().chain(self.take_ups.values().flat_map(TakeUp::parts));
        let patience = match session.fetcher {
            Fetcher::Fast(_) => Patience::Two,
            Fetcher::Librdkafka(_) => Patience::One,
        };
        let gone = self.absent.listed(&session.lasting.listing, known, patience);
        if !gone.is_empty() {
            self.lost(session, &gone);
        }
        let mut new: BTreeSet<Part> = (self.topics.iter())
            .flat_map(|(topic, count)| (0..*count).map(|partition| (topic.clone(), partition)))
            .filter(|part| !self.held.contains_key(part))
            .collect();
        for part in self.take_ups.values().flat_map(TakeUp::parts) {
            new.remove(part);
        }
        let new: Vec<Part> = new.into_iter().collect();
        self.assigned = true;
        if !new.is_empty() {
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
        self.assigned = true;
        session.source.board.set_group_fault(None);
        if parts.is_empty() {
            self.hold(session, Vec::new());
        } else {
            let (id, start) = (session.next_id(), session.source.config.start);
            let known = Known { topics: self.topics.clone(), first: session.lasting.first.clone() };
            let kept =
                parts.iter().filter_map(|part| session.lasting.kept.remove_entry(part)).collect();
            let (take_up, ask) = TakeUp::new(id, parts, start, known, &kept);
            self.take_ups.insert(id, take_up);
            // The look-up thread lives as long as its questions' sender.
            let _ = session.questions.send(ask);
        }
        self.show(session);
    }

    /// Holds what was found. The group has its answer then, and gets the others added to it later.
    fn taken_up(
        &mut self,
        session: &mut Session<'_>,
        id: u64,
        begins: Vec<Begin>,
        open: Vec<Open>,
    ) {
        let Some(take_up) = self.take_ups.get_mut(&id) else { return };
        let is_answer = !take_up.is_answered();
        if !is_answer && session.client.assignment_lost() {
            // The group says so in a moment. To add to what it has taken away would clear
            // librdkafka's mark. The look-up thread lives as long as its questions'
            // sender.
            let _ = session.questions.send(take_up.postpone(begins, open));
            return;
        }
        let (begins, ask) = take_up.answer(begins, open);
        match ask {
            // As above.
            Some(ask) => drop(session.questions.send(ask)),
            None => drop(self.take_ups.remove(&id)),
        }
        for begin in &begins {
            session.lasting.first.taken_up(&begin.part);
        }
        if is_answer || !begins.is_empty() {
            self.hold(session, begins);
        }
        self.show(session);
    }

    fn hold(&mut self, session: &mut Session<'_>, begins: Vec<Begin>) {
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut assignments = Vec::with_capacity(begins.len());
        for Begin { part, start, committed, epoch } in begins {
            let topic = names.entry(part.0.clone()).or_insert_with(|| Arc::from(part.0.as_str()));
            let assignment = Assignment::new(Arc::clone(topic), part.1, start, committed);
            if epoch >= 0 {
                assignment.epochs().note(start - 1, start, epoch);
            }
            self.held.insert(part, Arc::clone(&assignment));
            assignments.push(assignment);
        }
        if !assignments.is_empty() {
            session.tell(SourceEvent::Assigned(assignments.clone()));
        }
        if let Err(reason) = session.fetcher.take(&assignments) {
            session.client.context().report(&format!("taking up partitions: {reason}"));
        }
        self.ask_lives(session);
    }

    /// Shows how far what is to be held is held.
    fn show(&self, session: &Session<'_>) {
        let reason = self.take_ups.values().find_map(TakeUp::reason);
        session.source.board.set_taken_up(match reason {
            _ if self.assigned && self.take_ups.is_empty() => TakenUp::Wholly,
            Some(reason) => TakenUp::Partly(reason.to_owned()),
            None => TakenUp::Not,
        });
    }

    /// Whether it is known what is to be held.
    pub(super) fn is_assigned(&self) -> bool {
        self.assigned
    }

    fn not_assigned(&mut self) {
        self.assigned = false;
        self.joining = Joining::default();
    }

    /// Notices that the group has this member and nothing for it.
    pub(super) fn look_for_membership(&mut self, session: &Session<'_>) {
        let untold = !self.assigned && !self.leaving && session.protocol == GroupProtocol::Consumer;
        if untold && self.joining.is_done(&session.client) {
            self.assigned = true;
            session.source.board.set_group_fault(None);
            self.show(session);
        }
    }

    /// Those of `parts` that are held. What of them is still being looked up is forgotten.
    fn among(&mut self, parts: &[Part]) -> Vec<Arc<Assignment>> {
        for take_up in self.take_ups.values_mut() {
            parts.iter().for_each(|part| take_up.forget(part));
        }
        self.take_ups.retain(|_, take_up| !take_up.is_empty());
        parts.iter().filter_map(|part| self.held.get(part).cloned()).collect()
    }

    /// The group wants partitions back: they go once they are drained and committed, or after the
    /// route's time.
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
            session.tell(SourceEvent::Revoked {
                assignments: told,
                done: RevokeDone::new(id, answer),
            });
        }
        self.show(session);
    }

    /// Gives everything back, in order, though the group has not asked for it. What was delivered
    /// is committed.
    pub(super) fn leave(&mut self, session: &mut Session<'_>) {
        (self.leaving, self.assigned) = (true, false);
        self.drop_take_ups(session);
        let asked_back: Vec<&Part> =
            self.revoking.iter().flat_map(|revoking| &revoking.parts).collect();
        let held = self.held.keys().filter(|part| !asked_back.contains(part)).cloned();
        let held: Vec<Part> = held.collect();
        if !held.is_empty() {
            self.revoke(session, &held);
        }
        self.show(session);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether everything is given back that was to be.
    pub(super) fn has_left(&self) -> bool {
        self.leaving && self.revoking.is_empty()
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
        let Some(index) = self.revoking.iter().position(|revoking| revoking.id == id) else {
            return;
        };
        let revoking = self.revoking.swap_remove(index);
        self.forget(session, &revoking.parts, &revoking.assignments);
    }

    /// Lets go of partitions. The group waits for this answer also where it is that none of them
    /// was held.
    fn forget(
        &mut self,
        session: &mut Session<'_>,
        parts: &[Part],
        assignments: &[Arc<Assignment>],
    ) {
        for assignment in assignments {
            assignment.set_gone();
        }
        self.held.retain(|part, _| !parts.contains(part));
        self.lives.retain(|topic| self.held.keys().any(|(held, _)| held == topic));
        session.fetcher.release(assignments);
    }

    /// Partitions are gone: nothing more is committed for them.
    pub(super) fn lost(&mut self, session: &mut Session<'_>, parts: &[Part]) {
        let assignments = self.among(parts);
        let parts: Vec<Part> =
            parts.iter().filter(|part| self.held.contains_key(*part)).cloned().collect();
        self.revoking.retain_mut(|revoking| {
            revoking.parts.retain(|part| !parts.contains(part));
            !revoking.parts.is_empty()
        });
        self.forget(session, &parts, &assignments);
        if !assignments.is_empty() {
            session.tell(SourceEvent::Lost(assignments.clone()));
        }
        if session.source.config.group.is_some() {
            let committed = assignments.iter().filter_map(|assignment| {
                Some((
                    (assignment.topic.to_string(), assignment.partition),
                    assignment.committed()?,
                ))
            });
            session.lasting.kept.extend(committed);
            self.not_assigned();
        }
        self.show(session);
    }

    /// Everything is gone, with the client.
    pub(super) fn all_lost(&mut self, session: &mut Session<'_>) {
        self.take_ups.clear();
        let held: Vec<Part> = self.held.keys().cloned().collect();
        if !held.is_empty() {
            self.lost(session, &held);
        }
    }

    fn out_of_range(
        &mut self,
        session: &mut Session<'_>,
        due: Due,
        reason: &str,
    ) -> Result<(), String> {
        if !due.is_now() {
            return Ok(());
        }
        let Due { assignment, offset: from, .. } = &due;
        let (topic, partition) = (&assignment.topic, assignment.partition);
        error!(route = session.source.config.route, %topic, partition, from, reason, "offset out of range");
        if session.source.config.on_out_of_range == OnOutOfRange::Stop {
            return Err(format!(
                "{topic}/{partition}: the log has no offset {from}: {reason} (on_out_of_range = \"stop\")"
            ));
        }
        self.elsewhere(session, due, None, Reset::OutOfRange)
    }

    /// Goes on at `to`, or at the earliest offset once that is known.
    fn elsewhere(
        &mut self,
        session: &mut Session<'_>,
        due: Due,
        to: Option<i64>,
        why: Reset,
    ) -> Result<(), String> {
        if !due.is_now() {
            return Ok(());
        }
        let Due { assignment, offset: from, .. } = &due;
        let (topic, partition) = (&assignment.topic, assignment.partition);
        let stop = session.source.config.on_out_of_range == OnOutOfRange::Stop;
        match to {
            Some(to) if stop && why == Reset::Truncated => {
                return Err(format!(
                    "{topic}/{partition}: the log was cut at {to}, before {from} (on_out_of_range = \"stop\"; to go on, \
                     set the group's offset to {to}, or on_out_of_range to \"earliest\")"
                ));
            }
            Some(to) => self.reset(session, &due, to, why),
            None => {
                // The look-up thread lives as long as its questions' sender.
                let _ = session.questions.send(Ask::Earliest { due, why });
            }
        }
        Ok(())
    }

    fn reset(&mut self, session: &mut Session<'_>, due: &Due, to: i64, why: Reset) {
        if !due.is_now() {
            return;
        }
        let Due { assignment, offset: from, .. } = due;
        let from = *from;
        let skipped = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        error!(
            route = session.source.config.route, topic = %assignment.topic, partition = assignment.partition,
            from, to, skipped, "{}", why.told()
        );
        session.source.board.offset_resets.add(1);
        session.source.board.records_skipped.add(skipped);
        let generation = assignment.go_on_at(to, matches!(why, Reset::Truncated));
        session.tell(SourceEvent::Reset { assignment: Arc::clone(assignment), generation, from });
        self.seek(session, assignment, generation);
    }

    /// The route has it read again, unless another generation has begun since.
    fn restart(
        &mut self,
        session: &mut Session<'_>,
        assignment: &Arc<Assignment>,
        generation: Generation,
    ) {
        if assignment.is_active() && assignment.is_read_as(generation.number) {
            self.seek(session, assignment, generation);
        }
    }

    fn hold_back(&self, session: &mut Session<'_>, assignment: &Arc<Assignment>) {
        // It may have been restarted since.
        if assignment.is_active()
            && assignment.is_held()
            && let Err(reason) = session.fetcher.hold(assignment)
        {
            let (topic, partition) = (&assignment.topic, assignment.partition);
            session.client.context().report(&format!("{topic}/{partition}: pausing: {reason}"));
        }
    }

    fn seek(
        &self,
        session: &mut Session<'_>,
        assignment: &Arc<Assignment>,
        generation: Generation,
    ) {
        if let Err(reason) = session.fetcher.seek(assignment, generation) {
            let (topic, partition, offset) =
                (&assignment.topic, assignment.partition, generation.start);
            let reason = format!("{topic}/{partition}: going on at {offset}: {reason}");
            session.client.context().report(&reason);
        }
    }

    /// Asks which topics librdkafka fetches by their names.
    fn ask_lives(&self, session: &Session<'_>) {
        let mut topics: Vec<String> = self.held.keys().map(|(topic, _)| topic.clone()).collect();
        topics.dedup();
        if matches!(session.fetcher, Fetcher::Librdkafka(_)) && !topics.is_empty() {
            // The look-up thread lives as long as its questions' sender.
            let _ = session.questions.send(Ask::TopicIds(topics));
        }
    }

    /// Topics that are others than before are read from their starts.
    fn topic_ids(
        &mut self,
        session: &mut Session<'_>,
        ids: Vec<(String, TopicId)>,
    ) -> Result<(), String> {
        if !matches!(session.fetcher, Fetcher::Librdkafka(_)) {
            return Ok(());
        }
        for anew in self.lives.told(ids) {
            let held = self.held.iter().filter(|((topic, _), _)| *topic == anew);
            let due: Vec<Due> = held.map(|(_, assignment)| Due::of(assignment)).collect();
            for due in due {
                self.elsewhere(session, due, None, Reset::MadeAnew)?;
            }
        }
        Ok(())
    }

    /// The fast fetcher cannot be used: librdkafka takes over where it was.
    fn fetch_by_librdkafka(
        &mut self,
        session: &mut Session<'_>,
        reason: &str,
    ) -> Result<(), String> {
        if !matches!(session.fetcher, Fetcher::Fast(_)) {
            return Ok(());
        }
        info!(route = session.source.config.route, reason, "fetching by librdkafka");
        let held: Vec<_> = self.held.values().cloned().collect();
        if !held.is_empty() {
            session.fetcher.release(&held);
        }
        session
            .use_librdkafka()
            .map_err(|error| format!("no thread to fetch by librdkafka: {error}"))?;
        let active: Vec<_> = held.into_iter().filter(|assignment| assignment.is_active()).collect();
        session.fetcher.take(&active)?;
        // They were paused.
        session.resume(&active)
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

    fn drop_take_ups(&mut self, session: &Session<'_>) {
        let unanswered = self.take_ups.values().any(|take_up| !take_up.is_answered());
        self.take_ups.clear();
        if unanswered && session.source.config.group.is_some() {
            session.take_nothing();
        }
    }

    /// Forgets everything, before the client is closed. An assignment or a revocation without its
    /// answer would keep it from that.
    pub(super) fn release_all(&mut self, session: &mut Session<'_>) {
        self.drop_take_ups(session);
        let held: Vec<_> = std::mem::take(&mut self.held).into_values().collect();
        for assignment in &held {
            assignment.set_gone();
        }
        session.fetcher.release(&held);
    }
}
