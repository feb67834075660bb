//! `zafka run`, `relay`, `tap`, `send` and `demo`: start, serve, and end in order.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use zafka_bridge::{Principals, Relay, Route, StoppedRoute};
use zafka_kafka::Cluster;
use zafka_sockets::OutboundKind;
use zafka_sockets::gate::Gate;

use crate::admin;
use crate::cli::{
    self, CommandError, DemoArgs, EnrolArgs, HealthArgs, LeasesArgs, RevokeArgs, SendArgs, TapArgs,
};
use crate::config::Config;
use crate::control::Control;
use crate::demo;
use crate::enrol::{self, Enrolment};
use crate::health;
use crate::identity;
use crate::login::{self, Keeper, LoggedIn};
use crate::open_files;
use crate::reload::Reload;
use crate::send::{self, Composer, Input, SendConfig};
use crate::signals::{Hangup, Request, Signals};
use crate::tap::{self, Layout, TapConfig};

/// Time that `tap`, `send` and `demo` have to end. While they write to a pipe that is not read, no
/// signal reaches them.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Every route has stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("every route has stopped:{}", reasons(.0))]
struct Stopped(Vec<StoppedRoute>);

fn reasons(routes: &[StoppedRoute]) -> String {
    if routes.is_empty() {
        return " none of the configuration that was reloaded could be started".to_owned();
    }
    let reason =
        |stopped: &StoppedRoute| format!("\n  route {:?}: {}", stopped.route, stopped.reason);
    routes.iter().map(reason).collect()
}

/// Relays until a signal comes or every route has stopped. With a file, SIGHUP reloads it.
pub fn run(config: Config, file: Option<&Path>) -> Result<(), CommandError> {
    open_files::raise_limit();
    let reload = file.map(|file| Reload::new(file, config.clone()));
    let on_hangup = if reload.is_some() { Hangup::Reloads } else { Hangup::Ends };
    block_on_runtime(on_hangup, |signals| relay(config, reload, signals))
}

/// Shows the messages of an endpoint until a signal comes or enough are shown.
pub fn tap(args: TapArgs) -> Result<(), CommandError> {
    let layout = Layout::parse(&args.frames)?;
    let prefixes = if args.topics.is_empty() { vec![String::new()] } else { args.topics };
    let login = args.curve.login.then(login::current).transpose()?;
    let endpoint = args.curve.secured(args.endpoint, login.as_ref().map(LoggedIn::shown))?;
    let config = TapConfig {
        endpoint: endpoint.clone(),
        prefixes: prefixes.into_iter().map(String::into_bytes).collect(),
        count: args.count,
        layout,
    };
    ignore_broken_pipe(block_on_runtime(Hangup::Ends, async |signals| {
        let _keeper = login.map(|login| Keeper::start(endpoint, None, login));
        Ok(tap::run(config, stop(signals, 0)).await?)
    }))
}

/// Sends lines to an endpoint until a signal comes or all are settled.
pub fn send(args: &SendArgs) -> Result<(), CommandError> {
    let composer = Composer::new(args, rand::random())?;
    let input = match &args.file {
        Some(path) => Input::file(path, args.repeat)?,
        None => Input::stdin()?,
    };
    let login = args.curve.login.then(login::current).transpose()?;
    let shown = login.as_ref().map(LoggedIn::shown);
    let endpoint = args.curve.secured(args.endpoint.clone(), shown)?;
    let kind = if args.push { OutboundKind::Push } else { OutboundKind::Dealer };
    let config = SendConfig {
        endpoint: endpoint.clone(),
        kind,
        input,
        composer,
        window: args.window as usize,
        rate: args.rate,
        patience: args.timeout.0,
    };
    // What was not acknowledged in time has failed, by a signal too.
    block_on_runtime(Hangup::Ends, async |signals| {
        let _keeper = login.map(|login| Keeper::start(endpoint, Some(kind), login));
        send::run(config, stop(signals, 1)).await
    })
}

/// Enrols a key until it is done; with --keep until a signal comes.
pub fn enrol(args: EnrolArgs) -> Result<(), CommandError> {
    let enrolment = Enrolment::new(args)?;
    ignore_broken_pipe(block_on_runtime(Hangup::Ends, async |signals| {
        enrol::run(enrolment, stop(signals, 0)).await
    }))
}

/// Runs the demo until a signal comes or enough is shown.
pub fn demo(args: DemoArgs) -> Result<(), CommandError> {
    ignore_broken_pipe(block_on_runtime(Hangup::Ends, async |signals| {
        demo::run(args, stop(signals, 0)).await
    }))
}

/// Lists the leases of a running relay.
pub fn leases(args: LeasesArgs) -> Result<(), CommandError> {
    ignore_broken_pipe(block_on_runtime(Hangup::Ends, async |_| cli::leases(args).await))
}

/// Revokes keys, subjects or tokens at a running relay.
pub fn revoke(args: RevokeArgs) -> Result<(), CommandError> {
    block_on_runtime(Hangup::Ends, async |_| cli::revoke(args).await)
}

/// Asks a running relay for its health.
pub fn health(args: HealthArgs) -> Result<(), CommandError> {
    block_on_runtime(Hangup::Ends, async |_| Ok(health::run(args).await?))
}

/// Turns a closed output into success: the program that read it has gone, which is an end like any
/// other.
fn ignore_broken_pipe(result: Result<(), CommandError>) -> Result<(), CommandError> {
    let is_broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match result {
        Err(error) if error.downcast_ref().is_some_and(is_broken_pipe) => Ok(()),
        other => other,
    }
}

/// Done at the first signal. If the work has not ended [`END_TIMEOUT`] after it, the process is
/// ended with `code`.
fn stop(mut signals: Signals, code: i32) -> impl Future<Output = ()> {
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        signals.end().await;
        // The work may be done already.
        let _ = stop.send(());
        sleep(END_TIMEOUT).await;
        signal_hook::low_level::exit(code);
    });
    async {
        // The task above ends with the runtime alone.
        let _ = stopped.await;
    }
}

/// Does `work` on a runtime of its own, which gets a second to end what is left.
fn block_on_runtime(
    on_hangup: Hangup,
    work: impl AsyncFnOnce(Signals) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async { work(Signals::new(on_hangup)?).await });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn relay(
    config: Config,
    mut reload: Option<Reload>,
    mut signals: Signals,
) -> Result<(), CommandError> {
    let asked = config.asked_topics();
    // First: groups that are joined and left at every attempt to start would disturb the other
    // relays.
    let control = config.admin.as_ref().and_then(|admin| admin.control.clone());
    let admin = match config.admin {
        Some(admin) => Some(admin::Bound::new(admin).await?),
        None => None,
    };
    let cluster = Cluster::new(&config.cluster)?;
    let identity = match &config.identity {
        Some(config) => {
            let mut identity = identity::start(config)?;
            identity.open_door(&config.door).await?;
            identity.ask(&cluster, asked);
            Some(identity)
        }
        None => None,
    };
    let _control = match (&identity, control) {
        (Some(identity), Some(path)) => {
            Some(Control::bind(&path, Arc::clone(&identity.gate)).await?)
        }
        _ => None,
    };
    let gate = identity.as_ref().map(|identity| Arc::clone(&identity.gate) as Arc<dyn Gate>);
    let ingest = config.ingest.into_iter().map(Route::from);
    let routes = config.routes.into_iter().map(Route::from).chain(ingest);
    let principals = identity.as_ref().map(|one| Arc::clone(&one.gate) as Arc<dyn Principals>);
    let mut relay = Relay::start_with_gate(&cluster, routes, gate, principals).await?;
    let status = relay.status_handle();
    tracing::info!("zafka {} relays", env!("CARGO_PKG_VERSION"));
    let identities = identity.as_ref().map(|identity| Arc::clone(&identity.gate));
    if let (Some(reload), Some(identities)) = (&mut reload, &identities) {
        reload.tell_topics(identities);
    }
    let running = admin::Running { status, identities };
    let _admin = admin.map(|admin| admin.serve(Arc::new(running)));
    let name = serve(&mut relay, reload.as_mut(), &mut signals).await?;
    tracing::info!("{name}: sending what is left; a second signal ends at once");
    let timeout = reload.map_or(config.shutdown_timeout, |reload| reload.shutdown_timeout());
    relay.shutdown(timeout).await;
    Ok(())
}

/// Runs until a signal ends it, whose name it returns. A file is reloaded as often as it is asked
/// for; a request that comes meanwhile is the next one.
async fn serve(
    relay: &mut Relay,
    mut reload: Option<&mut Reload>,
    signals: &mut Signals,
) -> Result<&'static str, Stopped> {
    let mut asked = false;
    loop {
        let reloads = std::mem::take(&mut asked);
        let work = async {
            match &mut reload {
                Some(reload) if reloads => {
                    reload.take(relay).await;
                    None
                }
                _ => Some(relay.stopped().await),
            }
        };
        tokio::pin!(work);
        while !asked || reloads {
            tokio::select! {
                done = &mut work => match done {
                    Some(stopped) => return Err(Stopped(stopped)),
                    None => break,
                },
                request = signals.next() => match request {
                    Request::End(name) => return Ok(name),
                    Request::Reload => asked = true,
                },
            }
        }
    }
}
