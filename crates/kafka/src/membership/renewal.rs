//! Notices that the files of TLS have been renewed. librdkafka reads them once: a new client is to
//! take over then.
#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::time::{Duration, Instant};

use tracing::warn;

use crate::config::Tls;
use crate::connection;
use crate::security::Stamp;

/// Time between two looks. Files that are the same at two of them are taken for whole.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The action that the state of the files asks for.
#[derive(Debug, PartialEq, Eq)]
enum FilesVerdict<E> {
    Keep,
    /// Files that have changed and cannot be used; why. Logged once for each state of the files.
    Unusable(E),
    Renew,
}

/// Decides by stamps alone. Reads no file itself.
#[derive(Debug)]
struct Decider<S> {
    used: S,
    seen: S,
    refused: Option<S>,
    checked_at: Instant,
}

impl<S: Clone + PartialEq> Decider<S> {
    fn new(now: Instant, used: S) -> Self {
        Self { seen: used.clone(), used, refused: None, checked_at: now }
    }

    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.checked_at) >= CHECK_INTERVAL
    }

    /// Takes a look. `usable` is asked only for files that have changed since they were read and no
    /// more since the last look: a certificate may be there before its key is.
    fn check<E>(
        &mut self,
        now: Instant,
        stamp: S,
        usable: impl FnOnce() -> Result<(), E>,
    ) -> FilesVerdict<E> {
        self.checked_at = now;
        let is_settled = self.seen == stamp;
        self.seen = stamp;
        if self.seen == self.used {
            self.refused = None;
            return FilesVerdict::Keep;
        }
        if !is_settled {
            return FilesVerdict::Keep;
        }
        match usable() {
            Ok(()) => FilesVerdict::Renew,
            Err(_) if self.refused.as_ref() == Some(&self.seen) => FilesVerdict::Keep,
            Err(reason) => {
                self.refused = Some(self.seen.clone());
                FilesVerdict::Unusable(reason)
            }
        }
    }
}

/// The files of TLS, if there are any, as the client that is there has read them.
pub(super) struct Renewal(Option<(Tls, Decider<Stamp>)>);

impl Renewal {
    /// Takes note of the files. To be called before the client is made that reads them, so that no
    /// change is missed.
    pub(super) fn new(tls: Option<&Tls>) -> Self {
        Self(tls.map(|tls| (tls.clone(), Decider::new(Instant::now(), Stamp::of(tls)))))
    }

    /// Returns true if another client is to take over. Looks every few seconds.
    pub(super) fn is_due(&mut self, route: &str) -> bool {
        let Some((tls, decider)) = &mut self.0 else { return false };
        let now = Instant::now();
        if !decider.is_due(now) {
            return false;
        }
        match decider.check(now, Stamp::of(tls), || connection::usable(tls)) {
            FilesVerdict::Keep => false,
            FilesVerdict::Renew => true,
            FilesVerdict::Unusable(reason) => {
                warn!(
                    route,
                    %reason, "the group's client does not use changed files of kafka.security.tls"
                );
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_renewed_once_they_are_whole() {
        let told = FilesVerdict::Unusable;
        let (ok, half, bad) = (Ok(()), Err("half"), Err("bad"));
        // Stamp, whether it is usable, verdict. The client has read 1.
        type Looks = Vec<(u32, Result<(), &'static str>, FilesVerdict<&'static str>)>;
        let tables: Vec<(&str, Looks)> = vec![
            ("nothing", vec![(1, bad, FilesVerdict::Keep), (1, bad, FilesVerdict::Keep)]),
            (
                "renewed",
                vec![
                    (2, ok, FilesVerdict::Keep),
                    (2, ok, FilesVerdict::Renew),
                    (2, ok, FilesVerdict::Renew),
                ],
            ),
            (
                "still being written",
                vec![
                    (2, ok, FilesVerdict::Keep),
                    (3, ok, FilesVerdict::Keep),
                    (4, ok, FilesVerdict::Keep),
                    (4, ok, FilesVerdict::Renew),
                ],
            ),
            (
                "half written",
                vec![
                    (2, half, FilesVerdict::Keep),
                    (2, half, told("half")),
                    (2, half, FilesVerdict::Keep),
                    (3, ok, FilesVerdict::Keep),
                    (3, ok, FilesVerdict::Renew),
                ],
            ),
            (
                "put right without a change of the stamp",
                vec![
                    (2, bad, FilesVerdict::Keep),
                    (2, bad, told("bad")),
                    (2, ok, FilesVerdict::Renew),
                ],
            ),
            (
                "changed back",
                vec![
                    (2, ok, FilesVerdict::Keep),
                    (1, ok, FilesVerdict::Keep),
                    (1, ok, FilesVerdict::Keep),
                    (2, ok, FilesVerdict::Keep),
                ],
            ),
            (
                "spoilt, changed back, spoilt again",
                vec![
                    (2, bad, FilesVerdict::Keep),
                    (2, bad, told("bad")),
                    (1, ok, FilesVerdict::Keep),
                    (2, bad, FilesVerdict::Keep),
                    (2, bad, told("bad")),
                ],
            ),
        ];
        for (name, looks) in tables {
            let mut now = Instant::now();
            let mut decider = Decider::new(now, 1);
            for (at, (stamp, usable, verdict)) in looks.into_iter().enumerate() {
                assert!(!decider.is_due(now), "{name}: {at}");
                now += CHECK_INTERVAL;
                assert!(decider.is_due(now), "{name}: {at}");
                let found = decider.check(now, stamp, || usable);
                assert_eq!(found, verdict, "{name}: {at}");
            }
        }
    }

    #[test]
    fn without_tls_nothing_is_looked_at() {
        assert!(!Renewal::new(None).is_due("test"));
    }
}
