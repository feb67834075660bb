//! Brokers and partitions because of which records are not written, in the status and in the log.
#![warn(clippy::disallowed_methods)]

use std::time::Duration;

use tracing::info;

use super::super::Key;
use super::super::remote::Remote;
use super::Writer;
use crate::connection::RequestError;

impl Writer {
    pub(super) fn tell_of(&mut self, key: Key, trouble: Option<String>, reports: Vec<String>) {
        if trouble.is_none() && reports.is_empty() {
            self.held.remove(&key);
            return;
        }
        let Some((topic, _)) = self.topics.name_of(key) else { return };
        let partition = key.partition;
        for report in reports {
            self.reports.push_back(format!("{topic}/{partition}: {report}"));
        }
        match trouble {
            Some(trouble) => {
                let text = format!("{topic}/{partition} cannot be written: {trouble}");
                if self.held.insert(key, text.clone()).as_ref() != Some(&text) {
                    self.reports.push_back(text);
                }
            }
            None => _ = self.held.remove(&key),
        }
    }

    pub(super) fn answers(&mut self, broker: i32) {
        self.connected = Some(true);
        if self.troubled.remove(&broker).is_some() {
            info!(route = &*self.route, broker, "broker reconnected");
        }
    }

    pub(super) fn is_troubled(&mut self, broker: i32, error: RequestError) {
        self.troubled.insert(broker, error);
        self.ask_in(Duration::ZERO);
    }

    /// Returns the reason why records are not written, if they are not.
    pub(in super::super) fn trouble(&self) -> Option<String> {
        if let Some(reason) = self.held.values().next() {
            return Some(reason.clone());
        }
        let is_needed = |remote: &Remote| remote.in_flight > 0 || !remote.ready.is_empty();
        let mut troubled = self.troubled.iter();
        let (broker, error) =
            troubled.find(|(id, _)| self.brokers.get(id).is_some_and(is_needed))?;
        Some(format!("broker {broker} cannot be written to: {error}"))
    }
}
