//! A route's waits, put together from the reports of its two sides.

use std::collections::BTreeSet;
use std::sync::Arc;

use zafka_kafka::Source;
use zafka_sockets::{Origin, PubSocket};

use super::report::RouteReport;
use crate::status::WaitStatus;

/// Waits of a route that are shown at the most.
const SHOWN: usize = 100;

/// The waits of a route now, and how many there are in all.
pub(super) fn of_route(
    report: &RouteReport,
    socket: &PubSocket,
    source: &Source,
) -> (Vec<WaitStatus>, usize) {
    if report.stopped.lock().is_some() {
        return (Vec::new(), 0);
    }
    let of_socket = socket.waits().into_iter().map(|wait| WaitStatus {
        partition: wait.origin.and_then(|origin| partition_of(report, &origin)),
        kind: wait.kind.name(),
        reason: wait.reason,
        peer: wait.peer,
        since: wait.since,
    });
    let of_source = source.status().waits.into_iter().map(WaitStatus::from);
    shown(of_socket.chain(of_source).chain(for_subscribers(report)).collect())
}

/// The partitions that wait for peers to want them.
fn for_subscribers(report: &RouteReport) -> Vec<WaitStatus> {
    let partitions = report.partitions.lock();
    let short = report.short.lock();
    let waits = short.iter().filter_map(|(key, since)| {
        let demand =
            partitions.get(key)?.audience.demand.as_ref().filter(|demand| !demand.is_enough())?;
        let (peers, needed) = (demand.peers(), demand.needed());
        Some(WaitStatus {
            partition: Some(key.to_string()),
            kind: "subscribers",
            reason: format!("{key} has {peers} of {needed} subscribers (min_peers)"),
            peer: None,
            since: *since,
        })
    });
    waits.collect()
}

/// The partition that an origin belongs to, if the route still holds it.
fn partition_of(report: &RouteReport, origin: &Arc<Origin>) -> Option<String> {
    let partitions = report.partitions.lock();
    let found = partitions.iter().find(|(_, progress)| Arc::ptr_eq(&progress.origin, origin));
    found.map(|(partition, _)| partition.to_string())
}

/// The longest waits, those of one kind never crowding out all of another; and how many there are.
fn shown(mut waits: Vec<WaitStatus>) -> (Vec<WaitStatus>, usize) {
    let total = waits.len();
    waits.sort_by_key(|wait| wait.since);
    let mut kinds = BTreeSet::new();
    let mut ranked: Vec<_> =
        waits.into_iter().map(|wait| (!kinds.insert(wait.kind), wait)).collect();
    ranked.sort_by_key(|(others, _)| *others);
    ranked.truncate(SHOWN);
    let mut waits: Vec<_> = ranked.into_iter().map(|(_, wait)| wait).collect();
    waits.sort_by_key(|wait| wait.since);
    (waits, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(kind: &'static str, since: i64) -> WaitStatus {
        WaitStatus { partition: None, kind, reason: String::new(), peer: None, since }
    }

    #[test]
    fn the_longest_waits_are_shown_and_one_of_each_kind() {
        let mut all: Vec<_> = (0..500).rev().map(|since| wait("subscribers", since)).collect();
        all.push(wait("quota", 900));
        all.push(wait("quota", 800));
        let (waits, total) = shown(all);
        assert_eq!((waits.len(), total), (SHOWN, 502));
        let since: Vec<_> = waits.iter().map(|wait| wait.since).collect();
        let longest: Vec<_> = (0..SHOWN as i64 - 1).chain([800]).collect();
        assert_eq!(since, longest);
    }
}
