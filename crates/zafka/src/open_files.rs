//! The limit of open files (RLIMIT_NOFILE). Each peer is one, and systems start programs with a low
//! soft limit.

use rlimit::Resource;
use zafka_bridge::config::RouteConfig;

/// Files that a relay opens besides those of its peers: brokers, listeners, the admin server, logs.
const OTHERS: u64 = 256;

/// Returns how many files this process may have open, if the system says.
pub fn hard_limit() -> Option<u64> {
    rlimit::getrlimit(Resource::NOFILE).ok().map(|(_, hard)| hard)
}

/// Raises the soft limit to the hard one. A failure is logged: the relay then has room for fewer
/// peers.
pub fn raise_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the soft limit of open files stays as it is"),
    }
}

/// Logs a warning if peers may not fit the limit.
pub fn warn_of_peers(routes: &[RouteConfig]) {
    if let Some(text) = hard_limit().and_then(|limit| too_many_peers(routes, limit)) {
        tracing::warn!("{text}");
    }
}

/// Returns a warning if not all the peers that `routes` allow can be connected at once.
pub fn too_many_peers<'a>(
    routes: impl IntoIterator<Item = &'a RouteConfig>,
    hard_limit: u64,
) -> Option<String> {
    let peers: u64 = routes.into_iter().map(|route| route.socket.limits.max_peers as u64).sum();
    (peers.saturating_add(OTHERS) > hard_limit).then(|| {
        format!(
            "the routes allow {peers} peers together, and this process may have {hard_limit} files \
             open, about {OTHERS} of which it needs itself (ulimit -Hn)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = hard_limit().unwrap();
        // The least that can be taken away, since other tests run in this process.
        rlimit::setrlimit(Resource::NOFILE, hard - 1, hard).unwrap();
        raise_limit();
        assert_eq!(rlimit::getrlimit(Resource::NOFILE).unwrap(), (hard, hard));
    }
}
