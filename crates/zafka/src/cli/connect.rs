//! `zafka check --connect`: what the cluster says of each route.

pub mod ingest;

use std::io::{self, Write};

use zafka_bridge::config::RouteConfig;
use zafka_kafka::{ProbeError, ProbeResult, TopicFault, probe};

use crate::config::Config;
use crate::config::checks::{named_topics, prefix_pairs};

/// Pairs of prefixes that are shown of a route; patterns can make many.
const PAIRS_SHOWN: usize = 10;

/// Asks the cluster for the topics of each route.
///
/// # Errors
/// If no broker answers, or one refuses the client or a group.
pub fn ask(config: &Config) -> Result<Vec<ProbeResult>, ProbeError> {
    let sources: Vec<_> = config.routes.iter().map(|route| &route.source).collect();
    probe(&config.cluster, &sources)
}

/// Lists what a route would read, with what may not be meant. Gives the number of errors.
pub fn show(route: &RouteConfig, found: &ProbeResult, out: &mut dyn Write) -> io::Result<usize> {
    for (topic, partitions) in &found.topics {
        let plural = if *partitions == 1 { "" } else { "s" };
        writeln!(out, "  {topic}: {partitions} partition{plural}")?;
    }
    let mut errors = 0;
    for (topic, fault) in &found.missing {
        match fault {
            TopicFault::Unknown | TopicFault::NoPartitions => {
                writeln!(
                    out,
                    "  warning: topic {topic:?}: {fault}; the route reads it from when it does"
                )?;
            }
            TopicFault::NotAuthorized | TopicFault::Other(_) => {
                errors += 1;
                writeln!(out, "  error: topic {topic:?}: {fault}")?;
            }
        }
    }
    if found.topics.is_empty() && found.missing.is_empty() {
        writeln!(out, "  warning: no topic matches now")?;
    }
    // Those of topics that the file names are among the file's other warnings.
    let told = prefix_pairs(route, &named_topics(route));
    let pairs: Vec<_> = prefix_pairs(route, &found.topics)
        .into_iter()
        .filter(|pair| !told.contains(pair))
        .collect();
    for (short, long) in pairs.iter().take(PAIRS_SHOWN) {
        writeln!(
            out,
            "  warning: a subscription to {short} receives {long} too: SUB sockets match by prefix"
        )?;
    }
    if let Some(more @ 1..) = pairs.len().checked_sub(PAIRS_SHOWN) {
        writeln!(out, "  warning: and {more} more pairs of such prefixes")?;
    }
    Ok(errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdminConfig;
    use crate::relay_url::relay;

    fn shown(url: &str, topics: &[(&str, i32)], missing: &[(&str, TopicFault)]) -> (usize, String) {
        let admin: Option<AdminConfig> = None;
        let config = relay(url, "pub+tcp://127.0.0.1:1", admin).unwrap();
        let found = ProbeResult {
            topics: topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect(),
            missing: missing
                .iter()
                .map(|(topic, fault)| ((*topic).to_owned(), fault.clone()))
                .collect(),
        };
        let mut out = Vec::new();
        let errors = show(&config.routes[0], &found, &mut out).unwrap();
        (errors, String::from_utf8(out).unwrap())
    }

    #[test]
    fn topics_then_what_may_not_be_meant() {
        let missing = [("later", TopicFault::Unknown), ("theirs", TopicFault::NotAuthorized)];
        let found = [("a", 1), ("a.b", 12)];
        let (errors, out) = shown("kafka://k:1/%2Fa%2F,later,theirs", &found, &missing);
        assert_eq!(errors, 1);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[..2], ["  a: 1 partition", "  a.b: 12 partitions"]);
        assert!(lines[2].starts_with("  warning: topic \"later\": it does not exist;"), "{out}");
        assert_eq!(lines[3], "  error: topic \"theirs\": not authorized to read it");
        assert!(
            lines[4].starts_with("  warning: a subscription to \"a\" receives \"a.b\""),
            "{out}"
        );
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn what_the_file_told_is_not_told_again() {
        let (_, out) = shown("kafka://k:1/a,ab", &[("a", 1), ("ab", 1)], &[]);
        assert_eq!(out, "  a: 1 partition\n  ab: 1 partition\n");
    }

    #[test]
    fn nothing_matches() {
        assert_eq!(
            shown("kafka://k:1/%2Fa%2F", &[], &[]),
            (0, "  warning: no topic matches now\n".to_owned())
        );
    }

    #[test]
    fn many_pairs_are_cut() {
        let names: Vec<_> = (1..=7).map(|length| "a".repeat(length)).collect();
        let topics: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let (_, out) = shown("kafka://k:1/%2Fa%2F", &topics, &[]);
        assert!(out.ends_with("  warning: and 11 more pairs of such prefixes\n"), "{out}");
    }
}
