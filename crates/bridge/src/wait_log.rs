//! Tells waits in the log: after half a minute, every ten minutes, and when they are over.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use crate::registry::{Registry, Running};
use crate::status::WaitStatus;

/// Time before a wait is told.
const FIRST: Duration = Duration::from_secs(30);
/// Time between two lines for a wait.
const AGAIN: Duration = Duration::from_secs(600);
/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Logs the waits of routes for ever. Should that panic, it begins again.
pub(crate) async fn keep_logging(routes: Registry) {
    loop {
        // It ends with this future.
        let mut task = JoinSet::new();
        task.spawn(log(routes.clone()));
        task.join_next().await;
        error!("internal error: the log of waits begins again");
        sleep(LOOK).await;
    }
}

async fn log(routes: Registry) {
    let mut logs: Vec<(Running, WaitLog)> = Vec::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let running = routes.all();
        logs.retain(|(route, _)| running.iter().any(|other| other.is(route)));
        for route in running {
            if !logs.iter().any(|(other, _)| other.is(&route)) {
                logs.push((route, WaitLog::default()));
            }
        }
        for (route, log) in &mut logs {
            for line in log.look(&route.waits(), Instant::now()) {
                write(route.name(), &line);
            }
        }
    }
}

fn write(route: &str, line: &Line) {
    let Line { kind, partition, peer, .. } = line;
    let (partition, peer) = (partition.as_deref(), peer.as_deref());
    match &line.news {
        News::Waits { reason, seconds, others } => {
            warn!(route, kind, partition, peer, seconds, others, "waiting: {reason}");
        }
        News::Over { others } => info!(route, kind, partition, peer, others, "no longer waiting"),
    }
}

/// A line about a wait, and how many others of its kind have the same news.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    kind: &'static str,
    partition: Option<String>,
    peer: Option<String>,
    news: News,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Waits { reason: String, seconds: u64, others: usize },
    Over { others: usize },
}

/// The kind of a wait, its partition and its peer: what makes it one and the same at two looks.
type Key = (&'static str, Option<String>, Option<String>);

/// The state of a wait at the last look.
#[derive(Debug)]
struct Seen {
    since: Instant,
    told: Option<Instant>,
}

impl Seen {
    fn is_due(&self, now: Instant) -> bool {
        match self.told {
            None => now.duration_since(self.since) >= FIRST,
            Some(told) => now.duration_since(told) >= AGAIN,
        }
    }
}

/// The waits of one route that are known. Time is measured from the first look that found a wait.
#[derive(Debug, Default)]
struct WaitLog(BTreeMap<Key, Seen>);

impl WaitLog {
    /// Takes the waits as they are now, and gives the lines that are due: for each kind at most one
    /// of waits that go on and one of waits that are over.
    fn look(&mut self, waits: &[WaitStatus], now: Instant) -> Vec<Line> {
        let mut lines = self.over(waits);
        for wait in waits {
            self.0.entry(key(wait)).or_insert(Seen { since: now, told: None });
        }
        for kind in kinds(waits.iter().map(|wait| wait.kind)) {
            lines.extend(self.due(kind, waits, now));
        }
        lines
    }

    /// Forgets the waits that are over, and logs the end of those that were logged.
    fn over(&mut self, waits: &[WaitStatus]) -> Vec<Line> {
        let mut over = Vec::new();
        self.0.retain(|key, seen| {
            let goes_on = waits.iter().any(|wait| is_of(wait, key));
            if !goes_on && seen.told.is_some() {
                over.push(key.clone());
            }
            goes_on
        });
        let line = |kind| {
            let mut ended = over.iter().filter(|key| key.0 == kind);
            let (_, partition, peer) = ended.next()?.clone();
            Some(Line { kind, partition, peer, news: News::Over { others: ended.count() } })
        };
        kinds(over.iter().map(|key| key.0)).into_iter().filter_map(line).collect()
    }

    /// One line for the waits of a kind, if one of them is due; the others that are known as long
    /// count as told with it.
    fn due(&mut self, kind: &'static str, waits: &[WaitStatus], now: Instant) -> Option<Line> {
        let mut told: Option<(&WaitStatus, u64)> = None;
        let mut others = 0;
        let of_kind: Vec<_> = waits.iter().filter(|wait| wait.kind == kind).collect();
        let first = of_kind
            .iter()
            .find(|wait| self.0.get(&key(wait)).is_some_and(|seen| seen.is_due(now)))?;
        let is_repeat = self.0.get(&key(first)).is_some_and(|seen| seen.told.is_some());
        for wait in of_kind {
            let Some(seen) = self.0.get_mut(&key(wait)) else { continue };
            // A repeated line names all that were named before, so that they stay together.
            if seen.is_due(now) || (is_repeat && seen.told.is_some()) {
                seen.told = Some(now);
                match told {
                    None => told = Some((wait, now.duration_since(seen.since).as_secs())),
                    Some(_) => others += 1,
                }
            }
        }
        let (wait, seconds) = told?;
        Some(Line {
            kind,
            partition: wait.partition.clone(),
            peer: wait.peer.clone(),
            news: News::Waits { reason: wait.reason.clone(), seconds, others },
        })
    }
}

fn key(wait: &WaitStatus) -> Key {
    (wait.kind, wait.partition.clone(), wait.peer.clone())
}

fn is_of(wait: &WaitStatus, (kind, partition, peer): &Key) -> bool {
    wait.kind == *kind && wait.partition == *partition && wait.peer == *peer
}

/// Each kind once.
fn kinds(kinds: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The waits of each look, with its second, and the lines it gives.
    type Looks<'a> = &'a [(u64, &'a [(&'static str, &'static str)], &'a [&'static str])];

    fn shown(line: &Line) -> String {
        let Line { kind, partition, .. } = line;
        let partition = partition.as_deref().unwrap_or("all");
        match &line.news {
            News::Waits { seconds, others, .. } => {
                format!("{kind} {partition} {seconds} +{others}")
            }
            News::Over { others } => format!("{kind} {partition} over +{others}"),
        }
    }

    #[test]
    fn lines_come_after_half_a_minute_every_ten_minutes_and_at_the_end() {
        let (a, b, quota) = (("subscribers", "t/0"), ("subscribers", "t/1"), ("quota", "t/0"));
        let cases: &[Looks<'_>] = &[
            // A short one is not reported.
            &[(0, &[a], &[]), (29, &[a], &[]), (30, &[], &[])],
            &[
                (0, &[a], &[]),
                (30, &[a], &["subscribers t/0 30 +0"]),
                (35, &[a], &[]),
                (629, &[a], &[]),
                (630, &[a], &["subscribers t/0 630 +0"]),
                (1229, &[a], &[]),
                (1230, &[a], &["subscribers t/0 1230 +0"]),
                (1231, &[], &["subscribers t/0 over +0"]),
                (1240, &[a], &[]),
            ],
            // One that was over is another one.
            &[(0, &[a], &[]), (20, &[], &[]), (25, &[a], &[]), (54, &[a], &[])],
            // Those that are due together are one line, also later.
            &[
                (0, &[a, b], &[]),
                (30, &[a, b], &["subscribers t/0 30 +1"]),
                (630, &[a, b], &["subscribers t/0 630 +1"]),
                (640, &[], &["subscribers t/0 over +1"]),
            ],
            &[
                (0, &[a], &[]),
                (30, &[a, b], &["subscribers t/0 30 +0"]),
                (60, &[a, b], &["subscribers t/1 30 +0"]),
                (630, &[a, b], &["subscribers t/0 630 +1"]),
                (660, &[a, b], &[]),
                (1230, &[a, b], &["subscribers t/0 1230 +1"]),
                (1240, &[b], &["subscribers t/0 over +0"]),
            ],
            // Each kind has its own.
            &[
                (0, &[a, quota], &[]),
                (30, &[a, quota], &["quota t/0 30 +0", "subscribers t/0 30 +0"]),
                (31, &[a], &["quota t/0 over +0"]),
            ],
        ];
        let start = Instant::now();
        for looks in cases {
            let mut log = WaitLog::default();
            for (second, waits, lines) in *looks {
                let wait = |(kind, partition): &(&'static str, &str)| WaitStatus {
                    kind,
                    partition: Some((*partition).to_owned()),
                    ..WaitStatus::default()
                };
                let waits: Vec<_> = waits.iter().map(wait).collect();
                let found = log.look(&waits, start + Duration::from_secs(*second));
                let found: Vec<_> = found.iter().map(shown).collect();
                assert_eq!(found, *lines, "at {second} s of {looks:?}");
            }
            assert!(log.0.len() <= 2);
        }
    }
}
