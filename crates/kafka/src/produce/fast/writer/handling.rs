//! Handles the events of brokers' tasks.
#![warn(clippy::disallowed_methods)]

use std::time::Instant;

use super::super::Key;
use super::super::events::Event;
use super::super::request::Answered;
use super::Writer;
use crate::reason::{Consequence, Reason};

impl Writer {
    pub(in super::super) fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected(broker) => self.answers(broker),
            Event::Failed { error, .. } if error.consequence() == Consequence::Stop => {
                self.too_old = Some(error);
            }
            Event::Failed { broker, error } => {
                self.reports.push_back(error.to_string());
                self.is_troubled(broker, error);
            }
            Event::Slow { broker, error } => self.is_troubled(broker, error),
            Event::Produced { broker, serial, answers } => {
                self.answers(broker);
                self.ended(broker, serial);
                for (key, number, answered) in answers {
                    self.answered(key, number, answered, now);
                }
            }
            Event::Lost { broker, serial, requests, was_sent } => {
                self.ended(broker, serial);
                for (key, number) in requests {
                    if let Some(slot) = self.topics.slot(key) {
                        slot.partition.handle_lost(number, was_sent, now);
                    }
                    self.topics.touch(key);
                }
            }
            Event::ProducerId(key, answer) => {
                if let Some(slot) = self.topics.slot(key) {
                    slot.partition.handle_id(answer, now);
                }
                self.topics.touch(key);
            }
        }
    }

    fn answered(&mut self, key: Key, number: u64, answered: Option<Answered>, now: Instant) {
        let Some(slot) = self.topics.slot(key) else { return };
        match answered {
            Some(Answered { answer, leader }) => {
                slot.partition.handle_answer(number, &answer, &mut self.buffers, now);
                if let Some(leader) = leader
                    && self.addresses.contains_key(&leader.broker)
                {
                    self.topics.handle_leader(key, leader);
                }
            }
            None => slot.partition.handle_lost(number, true, now),
        }
        self.topics.touch(key);
    }

    /// Takes note that a Produce request of a broker's task has ended.
    fn ended(&mut self, broker: i32, serial: u64) {
        if let Some(remote) = self.brokers.get_mut(&broker)
            && remote.serial == serial
        {
            remote.in_flight = remote.in_flight.saturating_sub(1);
        }
    }
}
