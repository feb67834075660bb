//! `zafka run`, `zafka relay`, `zafka tap` and `zafka demo`: start, serve, and end in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use zafka_bridge::Relay;

use crate::admin::Admin;
use crate::cli::{CommandError, DemoArgs, TapArgs};
use crate::config::{Config, bind_warning};
use crate::demo;
use crate::open_files;
use crate::tap::{self, TapConfig};

/// Every route has stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("every route has stopped:{}", .0.iter().map(|(route, why)| format!("\n  route {route:?}: {why}")).collect::<String>())]
struct Stopped(Vec<(String, String)>);

/// Relays until a signal comes or every route has stopped.
pub fn run(config: Config) -> Result<(), CommandError> {
    open_files::raise_limit();
    on_runtime(|signals| relay(config, signals))
}

/// Shows the messages of an endpoint until a signal comes or enough are shown.
pub fn tap(args: TapArgs) -> Result<(), CommandError> {
    let prefixes = if args.topics.is_empty() { vec![String::new()] } else { args.topics };
    let config = TapConfig {
        endpoint: args.endpoint,
        prefixes: prefixes.into_iter().map(String::into_bytes).collect(),
        count: args.count,
        preset: args.frames,
    };
    on_runtime(async |mut signals| {
        let stop = async {
            signals.next().await;
        };
        Ok(tap::run(config, stop).await?)
    })
}

/// Runs the demo until a signal comes or enough is shown.
pub fn demo(args: DemoArgs) -> Result<(), CommandError> {
    on_runtime(async |mut signals| {
        let stop = async {
            signals.next().await;
        };
        demo::run(args, stop).await
    })
}

/// Does `work` on a runtime of its own, which gets a second to end what is left.
fn on_runtime(work: impl AsyncFnOnce(Signals) -> Result<(), CommandError>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async { work(Signals::new()?).await });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn relay(config: Config, mut signals: Signals) -> Result<(), CommandError> {
    let mut relay = Relay::start(&config.cluster, config.routes).await?;
    let status = relay.status_handle();
    let _admin = match config.admin {
        Some(admin) => {
            bind_warning(admin.bind).into_iter().for_each(|warning| tracing::warn!("{warning}"));
            Some(Admin::start(admin.bind, Arc::new(move || status.status())).await?)
        }
        None => None,
    };
    tokio::select! {
        stopped = relay.stopped() => return Err(Stopped(stopped).into()),
        name = signals.next() => tracing::info!("{name}: sending what is left; a second signal ends at once"),
    }
    tokio::select! {
        () = relay.shutdown(config.shutdown_timeout) => Ok(()),
        name = signals.next() => Err(format!("{name} again: ended at once").into()),
    }
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
