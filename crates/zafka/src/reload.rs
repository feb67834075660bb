//! Reloads the configuration file while the relay runs: routes come, change and go, the others are
//! not touched.
//!
//! It is all or nothing up to the first route that is stopped: with a mistake in the file, or with
//! a change that holds for the whole process, the old configuration stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::{error, info, warn};
use zafka_bridge::{Relay, Route};

use crate::cli;
use crate::config::difference::{Difference, RouteChange};
use crate::config::{self, Config, ConfigError};
use crate::identity::gate::Identities;

/// The file of a relay, and the part of it that runs.
pub struct Reload {
    file: PathBuf,
    current: Config,
    /// Identities; they get the topics of routes that came or went.
    identities: Option<Arc<Identities>>,
}

impl Reload {
    /// Begins with the configuration that the relay was started with.
    pub fn new(file: &Path, current: Config) -> Self {
        Self { file: file.to_owned(), current, identities: None }
    }

    /// Gives the identities the topics of all routes at each change from now on.
    pub fn tell_topics(&mut self, identities: &Arc<Identities>) {
        self.identities = Some(Arc::clone(identities));
    }

    /// Time to send what is in the rings at the end.
    pub fn shutdown_timeout(&self) -> Duration {
        self.current.shutdown_timeout
    }

    /// Reads the file and does what differs. What goes wrong is logged. May be dropped if the relay
    /// is then shut down.
    pub async fn take(&mut self, relay: &mut Relay) {
        let file = self.file.display().to_string();
        // It reads files, which may be those of a machine that does not answer.
        let path = self.file.clone();
        let loaded = match spawn_blocking(move || config::load(&path)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => return tell(&error),
            // The panic hook has logged it.
            Err(_) => return,
        };
        cli::announce(&loaded);
        let new = loaded.config;
        // One that has stopped by itself is started again.
        self.current.retain_routes(|name| relay.runs(name));
        let Difference { needs_restart, routes } = Difference::between(&self.current, &new);
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            error!("{file} is not reloaded, the old configuration stays: {keys} need a restart");
            return;
        }
        let is_touched = |change: &RouteChange| *change != RouteChange::Unchanged;
        let touched = routes.iter().filter(|(_, change)| is_touched(change));
        let touched: Vec<_> = touched.map(|(name, _)| name.as_str()).collect();
        // First: one may have an endpoint that another had.
        relay.stop_routes(&touched, new.shutdown_timeout).await;
        self.current.shutdown_timeout = new.shutdown_timeout;
        let mut old = self.current.all_routes();
        self.current.retain_routes(|name| !touched.contains(&name));
        for (name, change) in &routes {
            match change {
                RouteChange::Unchanged => {}
                RouteChange::Added => info!(route = name, "route added"),
                RouteChange::Removed => info!(route = name, "route removed"),
                RouteChange::Changed(keys) => {
                    info!(route = name, keys = keys.join(", "), "route changed");
                }
            }
        }
        let mut failed = 0;
        for route in new.all_routes().into_iter().filter(|new| touched.contains(&new.name())) {
            let before = old.iter().position(|old| old.name() == route.name());
            let before = before.map(|at| old.swap_remove(at));
            failed += usize::from(!self.start(relay, route, before).await);
        }
        if let Some(identities) = &self.identities {
            identities.set_topics(self.current.asked_topics());
        }
        let (touched, all) = (touched.len(), routes.len());
        match failed {
            0 => info!("{file} is reloaded: {touched} of {all} routes differ"),
            _ => error!("{file} is reloaded in part: {failed} of {all} routes cannot be started"),
        }
    }

    /// Starts a route; if it cannot be started, the one that was there before. Returns true if it
    /// was started.
    async fn start(&mut self, relay: &mut Relay, route: Route, before: Option<Route>) -> bool {
        let name = route.name().to_owned();
        let Err(error) = relay.start_route(route.clone()).await else {
            self.current.add_route(route);
            return true;
        };
        error!("not started: {error}");
        let Some(before) = before else { return false };
        match relay.start_route(before.clone()).await {
            Ok(()) => {
                warn!(route = name, "the route goes on as it was");
                self.current.add_route(before);
            }
            Err(error) => error!("not started as it was either: {error}"),
        }
        false
    }
}

/// Logs each mistake.
fn tell(error: &ConfigError) {
    match error {
        ConfigError::Read { .. } => error!("{error}"),
        ConfigError::Mistakes { place, mistakes } => {
            mistakes.iter().for_each(|mistake| error!("{place}: {mistake}"));
        }
    }
    error!("the configuration is not reloaded, the old one stays");
}
