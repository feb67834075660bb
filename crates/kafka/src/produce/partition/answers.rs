//! Handles the ends of a partition's requests.

use std::time::Instant;

use kafka_protocol::ResponseError as Code;

use super::batch::Sealed;
use super::verdict::{Trouble, Verdict};
use super::{Answer, BACKOFF, Buffers, Cause, Id, Partition, State};
use crate::produce::WriteError;
use crate::records::ProducerId;

/// Errors in a row, of those without a known meaning, before a batch is given up.
const UNKNOWN_ERRORS: u32 = 10;

impl Partition {
    /// Takes the producer id that was asked for, or why there is none.
    pub(in crate::produce) fn handle_id(
        &mut self,
        answer: Result<ProducerId, Option<Code>>,
        now: Instant,
    ) {
        if self.id != Id::Asked {
            return;
        }
        self.id = Id::None;
        match answer {
            Ok(id) => {
                self.id = Id::Have(id);
                self.next_sequence = 0;
            }
            Err(Some(code @ Code::ClusterAuthorizationFailed)) => {
                let trouble = Trouble::NotAllowed(code);
                let error = WriteError::NotAllowed(trouble.to_string());
                self.back_off(trouble, now);
                self.fail_unsent(&error);
            }
            Err(Some(code)) => self.back_off(Trouble::NoProducerId(code), now),
            // The connection reports its own errors.
            Err(None) => self.pause(now),
        }
    }

    /// Takes the answer to a request.
    pub(in crate::produce) fn handle_answer(
        &mut self,
        number: u64,
        answer: &Answer,
        buffers: &mut Buffers,
        now: Instant,
    ) {
        let Some(index) = self.end_request(number, now) else { return };
        let verdict = Verdict::of(answer.error);
        match verdict {
            Verdict::Written | Verdict::Duplicate => {
                let offset = Some(answer.base_offset)
                    .filter(|offset| *offset >= 0 && verdict == Verdict::Written);
                let time = Some(answer.log_append_time).filter(|ms| *ms >= 0);
                self.written(index, offset, time, buffers);
            }
            Verdict::Retry => self.again(answer, now),
            Verdict::NotLeader => {
                self.wants_leader = true;
                self.again(answer, now);
            }
            Verdict::Unclear => self.unclear(index, answer, now),
            Verdict::Unknown => {
                let errors = self.sealed.get_mut(index).map_or(0, |batch| {
                    batch.unclear += 1;
                    batch.unclear
                });
                self.unclear(index, answer, now);
                if errors >= UNKNOWN_ERRORS {
                    self.give_up(index, WriteError::Unknown(answer.to_string()));
                }
            }
            Verdict::Sequence => self.out_of_sequence(index, answer, now),
            Verdict::Producer => {
                self.report(answer);
                self.back_off(Trouble::Refused(answer.clone()), now);
                self.begin_rebuild(Cause::Producer);
            }
            Verdict::TooLarge => self.refused(index, answer, true),
            Verdict::Refused => self.refused(index, answer, false),
            Verdict::NotAllowed => {
                self.give_up(index, WriteError::NotAllowed(answer.to_string()));
            }
            Verdict::Impossible => self.give_up(index, failed(answer)),
        }
        self.settle();
        self.fail_refused();
    }

    /// Handles the end of a request without an answer. `was_sent`: true if the broker may have it.
    pub(in crate::produce) fn handle_lost(&mut self, number: u64, was_sent: bool, now: Instant) {
        let Some(index) = self.end_request(number, now) else { return };
        if let Some(batch) = self.sealed.get_mut(index) {
            batch.may_be_written |= was_sent;
        }
        self.wants_leader = true;
        self.drain();
        self.plant_after_loss();
        self.pause(now);
        self.settle();
        self.fail_refused();
    }

    /// Does nothing, unless a mistake is planted: then records that may be in the log count as
    /// absent.
    fn plant_after_loss(&mut self) {
        let divides = zafka_planted::is("resent-in-other-batches");
        if divides || zafka_planted::is("resent-under-another-sequence") {
            for batch in &mut self.sealed {
                batch.may_be_written = false;
                batch.is_to_be_divided = divides && batch.count > 1;
            }
            self.begin_rebuild(Cause::GivenUp);
        }
    }

    /// Ends a request, and returns its batch.
    fn end_request(&mut self, number: u64, now: Instant) -> Option<usize> {
        let index = self.sealed.iter().position(|batch| batch.request == Some(number))?;
        self.sealed.get_mut(index)?.request = None;
        self.in_flight -= 1;
        self.used = Some(now);
        Some(index)
    }

    fn written(
        &mut self,
        index: usize,
        offset: Option<i64>,
        log_append: Option<i64>,
        buffers: &mut Buffers,
    ) {
        let Some(mut batch) = self.sealed.remove(index) else { return };
        self.acknowledge(&mut batch, offset, log_append);
        batch.reclaim(buffers);
        self.failures = 0;
        self.trouble = None;
        if self.state == State::Probing {
            self.state = State::Open;
        }
    }

    /// Sends again the batches that were not appended by the requests that ended.
    fn again(&mut self, answer: &Answer, now: Instant) {
        self.drain();
        self.back_off(Trouble::Refused(answer.clone()), now);
    }

    fn unclear(&mut self, index: usize, answer: &Answer, now: Instant) {
        if let Some(batch) = self.sealed.get_mut(index) {
            batch.may_be_written = true;
        }
        self.wants_leader = true;
        self.again(answer, now);
    }

    /// Handles a batch whose sequence the log did not take.
    fn out_of_sequence(&mut self, index: usize, answer: &Answer, now: Instant) {
        if matches!(self.state, State::Rebuilding(_)) {
            return;
        }
        // One before it is missing: it is sent again behind that.
        if index > 0 {
            return self.again(answer, now);
        }
        self.back_off(Trouble::Refused(answer.clone()), now);
        // A log that begins behind all that was acknowledged has forgotten us, and lost nothing.
        let is_forgotten = self.acknowledged.is_none_or(|last| answer.log_start > last);
        if !is_forgotten {
            self.report(answer);
        }
        self.begin_rebuild(Cause::Sequence);
    }

    fn report(&mut self, answer: &Answer) {
        let last = self.acknowledged.map_or("none".to_owned(), |last| last.to_string());
        self.reports.push(format!(
            "the log does not go on where our records do ({answer}; last acknowledged offset: \
             {last}, log start: {}): records may be lost",
            answer.log_start
        ));
    }

    /// Handles a batch that the broker refuses for its content. If it has several records it is
    /// divided, since the others may be valid.
    fn refused(&mut self, index: usize, answer: &Answer, is_too_large: bool) {
        let Some(batch) = self.sealed.get(index) else { return };
        let several = batch.count > 1 && !batch.was_told();
        if several && !batch.may_be_written {
            if is_too_large {
                self.batch_bytes = (batch.bytes.len() / 2).max(1);
            }
            if let Some(batch) = self.sealed.get_mut(index) {
                batch.is_to_be_divided = true;
            }
            return self.begin_rebuild(Cause::GivenUp);
        }
        let error = match is_too_large {
            true => WriteError::TooLarge(answer.to_string()),
            false => failed(answer),
        };
        self.give_up(index, error);
    }

    /// Reports a batch that is not sent again: as failed, or as unknown if it may be in the log.
    pub(super) fn give_up(&mut self, index: usize, error: WriteError) {
        let Some(mut batch) = self.sealed.remove(index) else { return };
        let error = known(&batch, error);
        self.tell(&mut batch, Err(error));
        if batch.request.is_some() {
            // Its request is under way: it ends first.
            self.sealed.insert(index, batch);
        }
        self.begin_rebuild(Cause::GivenUp);
    }

    pub(super) fn begin_rebuild(&mut self, cause: Cause) {
        self.state = State::Rebuilding(match self.state {
            State::Rebuilding(known) => known.max(cause),
            _ => cause,
        });
    }

    fn drain(&mut self) {
        if !matches!(self.state, State::Rebuilding(_)) {
            self.state = State::Draining;
        }
    }

    fn back_off(&mut self, trouble: Trouble, now: Instant) {
        self.trouble = Some(trouble);
        self.pause(now);
    }

    fn pause(&mut self, now: Instant) {
        self.retry_at = Some(now + BACKOFF.after(self.failures));
        self.failures += 1;
    }
}

/// Returns the error to be reported for a batch: unknown, unless it is known not to be in the log.
fn known(batch: &Sealed, error: WriteError) -> WriteError {
    match error {
        WriteError::Unknown(reason) => WriteError::Unknown(reason),
        error if zafka_planted::is("lost-is-told-failed") => error,
        error if batch.may_be_written || batch.request.is_some() => {
            WriteError::Unknown(error.to_string())
        }
        error => error,
    }
}

/// Returns the error of a batch that can never be written.
fn failed(answer: &Answer) -> WriteError {
    let error = answer.error.map_or_else(String::new, |code| code.to_string());
    WriteError::Kafka { error, reason: answer.to_string(), retriable: false }
}
