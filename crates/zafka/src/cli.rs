//! The command line: what the user typed. What it means is the commands' business.

mod access;
mod check;
mod connect;
mod control;
#[cfg(test)]
pub(crate) mod docs;
mod frames;
mod identity;
mod keygen;
mod log;
pub mod manual;
mod token_file;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ContextValue;
use clap::{Args, Parser, Subcommand};
use zafka_sockets::Endpoint;

use crate::config::ConfigError;
use crate::{redact, stderr};

pub use access::access;
pub use check::check;
pub use control::{leases, revoke};
pub use frames::Frames;
pub use identity::{
    AccessArgs, ControlArgs, CurveArgs, EnrolArgs, KeygenArgs, LeasesArgs, LoginArgs, RevokeArgs,
};
pub use keygen::keygen;
pub use log::{LogArgs, announce, announce_urls};
pub use token_file::token_in;

/// The usage or the configuration is wrong.
pub const EXIT_USAGE: u8 = 2;

/// A mistake of a command line beyond what its parser finds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The error that a failed command ends with.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

const RELAY_HELP: &str = "\
Example (quoted, for the shell's sake):
  zafka relay 'kafka://127.0.0.1:9092/orders?group=edge&start=earliest' \
'pub+tcp://127.0.0.1:5556?slow_peer=block&min_peers=1'

Only group, start, frames, slow_peer and min_peers can be given this way. Everything else wants a \
file: zafka run -c FILE.";

const EXIT_HELP: &str = "\
Exit status: 0 done, also by a signal; 1 it ran and failed; 2 the configuration or the command \
line is wrong.";

/// A lightweight relay between Apache Kafka and ZeroMQ.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_HELP)]
pub struct Cli {
    /// Options of the log.
    #[command(flatten)]
    pub log: LogArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay what a configuration file says. SIGHUP reloads the file.
    Run(RunArgs),
    /// Relay one route, without a file.
    Relay(RelayArgs),
    /// Find every mistake of a configuration file.
    Check(CheckArgs),
    /// Subscribe to an endpoint and print its messages.
    Tap(TapArgs),
    /// Send lines to an endpoint and count what is acknowledged.
    Send(SendArgs),
    /// Log in at a provider, for tap, send and enrol with --login.
    Login(LoginArgs),
    /// Tell what a token is worth to a relay with this configuration: whether it is taken, and for
    /// which topics.
    Access(AccessArgs),
    /// Enrol a CURVE key at the door of a relay by a token, so that the relay lets in whoever has
    /// that key.
    Enrol(EnrolArgs),
    /// List the leases of a running relay: keys that tokens have let in, and until when.
    Leases(LeasesArgs),
    /// Keep out a key, a subject or a token: its connections are closed at once, at this relay and
    /// until it is restarted.
    Revoke(RevokeArgs),
    /// Make a new CURVE key, in two files.
    Keygen(KeygenArgs),
    /// Show the relay at work, with a Kafka broker inside this process.
    Demo(DemoArgs),
    /// Ask a running relay for its health.
    Health(HealthArgs),
    /// Print the completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, in the format of man.
    Man(ManArgs),
}

/// `zafka health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The relay's admin endpoint.
    #[arg(value_name = "IP:PORT", default_value = "127.0.0.1:9644")]
    pub admin: SocketAddr,
    /// Ask for /readyz in place of /healthz.
    #[arg(long)]
    pub ready: bool,
}

/// `zafka completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `zafka man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page is printed; that of the program without it.
    pub command: Option<String>,
}

/// `zafka run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "zafka.toml")]
    pub config: PathBuf,
}

/// `zafka relay`.
#[derive(Debug, Args)]
#[command(after_help = RELAY_HELP)]
pub struct RelayArgs {
    /// The source, as a `kafka://` URL.
    #[arg(
        help = "What to read: kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]?group=NAME&start=earliest"
    )]
    pub source: String,
    /// The socket to publish at, as a `pub+tcp://` or `pub+ipc://` URL.
    #[arg(
        help = "Where to publish: pub+tcp://HOST:PORT?frames=json&slow_peer=block&min_peers=1; \
                  pub+connect+tcp:// connects instead of binding, pub+ipc:///PATH is local"
    )]
    pub destination: String,
    /// Serve /healthz, /readyz, /metrics and /status there.
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,
}

/// `zafka check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "zafka.toml")]
    pub config: PathBuf,
    /// Reach the brokers and authenticate too, and list the topics that each route would read or
    /// may write to.
    #[arg(long)]
    pub connect: bool,
}

/// `zafka tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Endpoint to connect to: tcp://HOST:PORT or ipc:///PATH.
    #[arg(value_parser = to_connect)]
    pub endpoint: Endpoint,
    /// Prefix of the routing frame to subscribe to; again for more. Everything without it. If
    /// routing frames are not topics, gaps are then unknown: a prefix leaves records of a partition
    /// out.
    #[arg(long = "topic", value_name = "PREFIX")]
    pub topics: Vec<String>,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Layout of the messages: json, packed, batch or value; or the route's own templates, one each
    /// time or as a list: '["{topic}", "{offset:u64be}", "{value}"]'.
    #[arg(long, value_name = "FRAMES", default_value = "json")]
    pub frames: Vec<String>,
    /// Security of the connection.
    #[command(flatten)]
    pub curve: CurveArgs,
}

pub(crate) const SEND_HELP: &str = "\
Example:
  seq 1000 | zafka send tcp://127.0.0.1:5558 --topic orders --key customer-7

The frames have to be those of the route. On standard output, unless it is a terminal, is a line \
of JSON for each answer, and one with a summary. What a lost connection left without an answer is \
sent again, and may then be in the log twice.

Exit status: 0 every message was acknowledged (with --push: written); 1 not every one; 2 the \
command line is wrong.";

/// `zafka send`.
#[derive(Debug, Args)]
#[command(after_help = SEND_HELP)]
pub struct SendArgs {
    /// Endpoint of a ROUTER (with --push: of a PULL) to connect to: tcp://HOST:PORT or ipc:///PATH.
    #[arg(value_parser = to_connect)]
    pub endpoint: Endpoint,
    /// Topic, for the frame that carries it.
    #[arg(long)]
    pub topic: Option<String>,
    /// Key, for the frame that carries it. Null or empty without it.
    #[arg(long)]
    pub key: Option<String>,
    /// A header, for the frame {header.NAME} or for meta; again for more.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Layout of the messages: json, packed, batch or value; or the route's own templates, one each
    /// time or as a list. '["{id}", "{topic}", "{key}", "{value}"]' without it, with --push the
    /// same without {id}.
    #[arg(long, value_name = "FRAMES")]
    pub frames: Vec<String>,
    /// Read the lines of a file; those of standard input without it.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Send the file so many times.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "file",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: u64,
    /// Send at most so many messages a second.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Send by PUSH to a PULL, which answers nothing: a message counts once the kernel has it.
    #[arg(long)]
    pub push: bool,
    /// Messages under way at the most (and 16 MiB).
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub window: u32,
    /// Give up if nothing was acknowledged or refused for so long; 0: never.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = patience)]
    pub timeout: Patience,
    /// Security of the connection.
    #[command(flatten)]
    pub curve: CurveArgs,
}

/// Longest time without any progress; `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Option<Duration>);

/// The endpoint that the demo publishes on.
pub const DEMO_BIND: &str = "tcp://127.0.0.1:5556";

/// `zafka demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Endpoint that the demo publishes on.
    #[arg(long, value_name = "ENDPOINT", default_value = DEMO_BIND)]
    pub bind: Endpoint,
    /// Endpoint that the demo takes messages on. tcp://127.0.0.1:5557 without it, or a free port if
    /// --bind is given.
    #[arg(long, value_name = "ENDPOINT")]
    pub accept: Option<Endpoint>,
    /// End after so many messages shown.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

/// Parses an endpoint to connect to.
fn to_connect(text: &str) -> Result<Endpoint, String> {
    crate::config::text::connect(text, Path::new("")).map_err(|wrong| match wrong.why {
        Some(why) => format!("{why}; allowed: {}", wrong.allowed),
        None => format!("allowed: {}", wrong.allowed),
    })
}

/// Parses a header.
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("allowed: NAME=VALUE".to_owned()),
    }
}

/// Parses messages a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| "allowed: messages a second, from 0.001 to 1000000000".to_owned())
}

/// Parses a time that may have no end.
fn patience(text: &str) -> Result<Patience, String> {
    let day = Duration::from_secs(24 * 3600);
    let read = crate::config::text::duration_or_none(text, Duration::from_millis(1), day);
    read.map(Patience).map_err(|wrong| format!("allowed: {}", wrong.allowed))
}

/// The error if standard output cannot be written to.
pub fn output_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// The end of a command whose output cannot be written. The reader that stopped knows why.
pub fn output_failed(error: io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::FAILURE;
    }
    exit_code(Err(output_error(error).into()))
}

/// A mistake of the arguments, without the credentials that they may have.
pub fn redacted(mut error: clap::Error) -> clap::Error {
    let texts: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in texts {
        if let ContextValue::String(text) = value {
            error.insert(kind, ContextValue::String(redact::redacted(&text).into_owned()));
        }
    }
    error
}

/// Says why a command failed, and turns that into an exit code.
pub fn exit_code(result: Result<(), CommandError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    stderr::say(&format!("zafka: {error}"));
    let is_usage = error.is::<ConfigError>() || error.is::<UsageError>();
    if is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}
