//! A relay's metrics at one moment.

use zafka_testkit::http;

use crate::Outcome;

/// The text of `/metrics`, of a relay with one route.
pub struct Metrics(String);

impl Metrics {
    /// Asks a relay's admin server.
    ///
    /// # Errors
    /// It does not answer.
    pub fn read(admin: &str) -> Outcome<Self> {
        Ok(Self(http::get(admin, "/metrics")?.1))
    }

    /// The value of the route's metric.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn value(&self, name: &str) -> Outcome<u64> {
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        let value = self.0.lines().find(is_it).and_then(|line| line.rsplit(' ').next());
        let value: f64 = value.ok_or_else(|| format!("this zafka has no {name}"))?.parse()?;
        Ok(value as u64)
    }

    /// The connections that the relay has ended, by reason.
    pub fn closed(&self) -> Vec<(String, u64)> {
        let closed = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix("zafka_peers_closed_total{")?;
            let reason = rest.split_once("reason=\"")?.1.split_once('"')?.0;
            let count: f64 = rest.rsplit(' ').next()?.parse().ok()?;
            (count > 0.0).then(|| (reason.to_owned(), count as u64))
        });
        closed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_and_reasons() {
        let metrics = Metrics(
            "# TYPE zafka_peers gauge\nzafka_peers_subscribed{route=\"a\"} 3\n\
             zafka_peers{route=\"a\"} 4\n\
             zafka_peers_closed_total{reason=\"peer\",route=\"a\"} 0\n\
             zafka_peers_closed_total{reason=\"put_off\",route=\"a\"} 2\n"
                .to_owned(),
        );
        assert_eq!(metrics.value("zafka_peers").unwrap(), 4);
        assert!(metrics.value("zafka_peer").is_err());
        assert_eq!(metrics.closed(), [("put_off".to_owned(), 2)]);
    }
}
