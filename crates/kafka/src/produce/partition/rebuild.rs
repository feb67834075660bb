//! Sequences that begin again, and batches that are given up or divided.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;
use zafka_envelope::{Record, Timestamp};

use super::batch::{Closed, Sealed};
use super::{Buffers, Cause, Id, Open, Partition, advanced};
use crate::produce::tickets::Tickets;
use crate::produce::{Deliveries, WriteError};
use crate::records::{Batches, Codec, NewRecord, ProducerId, ReadOptions};

impl Partition {
    /// Begins a new epoch, now that no request is under way. Batches that are known not to be in
    /// the log keep their order under it; the outcome of the rest is unknown.
    pub(super) fn rebuild(&mut self, cause: Cause) {
        let mut kept = Vec::with_capacity(self.sealed.len());
        for mut batch in std::mem::take(&mut self.sealed) {
            if batch.was_told() {
                continue;
            }
            if batch.may_be_written {
                let reason = "a new sequence had to begin before its answer came".to_owned();
                self.tell(&mut batch, Err(WriteError::Unknown(reason)));
            } else if batch.is_to_be_divided {
                match divided(batch, self.settings.codec) {
                    Ok(halves) => kept.extend(halves),
                    Err(tickets) => {
                        let error = WriteError::TooLarge("it cannot be divided".to_owned());
                        self.deliveries.push_back(Deliveries::new(tickets, Err(error)));
                    }
                }
            } else {
                kept.push(batch.unseal());
            }
        }
        for closed in kept.into_iter().rev() {
            self.closed.push_front(closed);
        }
        self.next_sequence = 0;
        self.id = match self.id {
            Id::Have(id) if cause != Cause::Producer && id.epoch < i16::MAX => {
                Id::Have(ProducerId { epoch: id.epoch + 1, ..id })
            }
            Id::Asked => Id::Asked,
            Id::None | Id::Have(_) => Id::None,
        };
    }

    /// Gives up all records: the topic or the partition is gone.
    pub(in crate::produce) fn fail_all(&mut self, error: &WriteError) {
        self.fail(error, |_| true);
    }

    /// Gives up what no broker can have. What was sent is awaited, and sent again if need be:
    /// behind it the sequence goes back, so that no new one has to begin. One that is missing
    /// before it leaves no other way, since the log would not take it any more. From now on nothing
    /// is sent that no broker can have: what is refused later is given up as well.
    pub(in crate::produce) fn fail_never_sent(&mut self, error: &WriteError) {
        self.over = Some(error.clone());
        let is_unsent = |batch: &Sealed| !batch.may_be_written && batch.request.is_none();
        let last = self.sealed.iter().rposition(|batch| !is_unsent(batch) || batch.was_told());
        for mut batch in self.sealed.split_off(last.map_or(0, |last| last + 1)) {
            self.next_sequence = advanced(self.next_sequence, -batch.count);
            self.tell(&mut batch, Err(error.clone()));
        }
        self.fail(error, is_unsent);
    }

    /// The same, once a request has ended, if it was done before.
    pub(super) fn fail_refused(&mut self) {
        if let Some(error) = self.over.take() {
            self.fail_never_sent(&error);
        }
    }

    /// Gives up batches without a sequence, and those with one that are wanted.
    fn fail(&mut self, error: &WriteError, is_wanted: impl Fn(&Sealed) -> bool) {
        let mut index = 0;
        while let Some(batch) = self.sealed.get(index) {
            // A batch with a request under way stays until that has ended.
            if batch.was_told() || !is_wanted(batch) {
                index += 1;
            } else {
                self.give_up(index, error.clone());
            }
        }
        self.fail_unsent(error);
        self.settle();
    }

    /// Gives up batches without a sequence.
    pub(super) fn fail_unsent(&mut self, error: &WriteError) {
        while let Some(closed) = self.take_unsealed(|_| true) {
            self.tell_closed(closed, error.clone());
        }
    }

    /// Gives up batches older than `timeout`.
    pub(super) fn expire(&mut self, now: Instant, timeout: Duration) {
        let is_old = |last: Instant| now.saturating_duration_since(last) >= timeout;
        let trouble = self.trouble.as_ref().map(|trouble| format!(": {trouble}"));
        let error = WriteError::Kafka {
            error: "RequestTimedOut".to_owned(),
            reason: format!("not written within {timeout:?}{}", trouble.unwrap_or_default()),
            retriable: true,
        };
        let mut index = 0;
        while let Some(batch) = self.sealed.get(index)
            && is_old(batch.last)
        {
            if !batch.was_told() {
                self.give_up(index, error.clone());
            }
            index += usize::from(self.sealed.get(index).is_some_and(Sealed::was_told));
        }
        while let Some(closed) = self.take_unsealed(is_old) {
            self.tell_closed(closed, error.clone());
        }
        self.settle();
    }

    /// Takes the oldest batch without a sequence, if its last record's time is wanted.
    fn take_unsealed(&mut self, is_wanted: impl Fn(Instant) -> bool) -> Option<Closed> {
        match self.closed.front() {
            Some(closed) if is_wanted(closed.last) => self.closed.pop_front(),
            Some(_) => None,
            None => {
                let open = self.open.take_if(|open| is_wanted(open.last))?;
                Some(open.close(None, &mut Buffers::default()))
            }
        }
    }

    /// Ends. Batches that are known not to be in the log are returned, in their order, to be read;
    /// the rest is reported as unknown.
    pub(in crate::produce) fn hand_over(&mut self, reason: &str) -> Vec<(Bytes, Tickets)> {
        let mut kept = Vec::new();
        for mut batch in std::mem::take(&mut self.sealed) {
            if batch.was_told() {
                continue;
            }
            if batch.may_be_written || batch.request.is_some() {
                self.tell(&mut batch, Err(WriteError::Unknown(reason.to_owned())));
            } else {
                kept.push(batch.unseal().into_readable());
            }
        }
        self.in_flight = 0;
        while let Some(closed) = self.take_unsealed(|_| true) {
            kept.push(closed.into_readable());
        }
        kept
    }
}

/// Divides a batch that is known not to be in the log into two.
///
/// # Errors
/// The batch is larger than the limit once it is decompressed.
fn divided(batch: Sealed, codec: Option<Codec>) -> Result<[Closed; 2], Tickets> {
    let last = batch.last;
    let (bytes, tickets) = batch.unseal().into_readable();
    let middle = tickets.len().div_ceil(2);
    let half = || Open::new(bytes.len(), &mut Buffers::default(), last);
    let mut halves = [half(), half()];
    let mut left = tickets.iter().enumerate();
    each_record(bytes, |record| {
        let [first, second] = &mut halves;
        if let Some((number, ticket)) = left.next() {
            let half = if number < middle { first } else { second };
            half.push(ticket, record, last);
        }
    });
    let is_cut_short = left.next().is_some();
    drop(left);
    if is_cut_short {
        return Err(tickets);
    }
    Ok(halves.map(|half| half.close(codec, &mut Buffers::default())))
}

/// Hands out the records of a batch that was built here.
pub(in crate::produce) fn each_record(bytes: Bytes, mut f: impl FnMut(&NewRecord<'_>)) {
    let mut batches = Batches::new(bytes, ReadOptions { from: 0, aborted: None });
    // It was built by ourselves: it is read to its end.
    while let Ok(Some(mut run)) = batches.next() {
        let walked = run.walk(|record| {
            f(&NewRecord {
                timestamp: timestamp(record),
                key: record.key,
                value: record.value,
                headers: &headers(record),
            });
            ControlFlow::Continue(())
        });
        if walked.is_err() {
            return;
        }
    }
}

fn timestamp(record: &Record<'_>) -> i64 {
    match record.timestamp {
        Timestamp::None => -1,
        Timestamp::Create(ms) | Timestamp::LogAppend(ms) => ms,
    }
}

/// Names were UTF-8 when they were written.
fn headers<'a>(record: &Record<'a>) -> Vec<(&'a str, Option<&'a [u8]>)> {
    let header = |one: &zafka_envelope::Header<'a>| {
        (std::str::from_utf8(one.name).unwrap_or_default(), one.value)
    };
    record.headers.iter().map(header).collect()
}
