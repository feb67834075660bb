//! The command line: what the user typed. What it means is the commands' business.

mod check;
mod connect;
#[cfg(test)]
mod docs;
mod log;
pub mod manual;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ContextValue;
use clap::{Args, Parser, Subcommand};
use zafka_sockets::Endpoint;

use crate::config::ConfigError;
use crate::{redact, stderr};

pub use check::check;
pub use log::{LogArgs, announce, announce_urls};

/// The usage or the configuration is wrong.
pub const EXIT_USAGE: u8 = 2;

/// What is wrong with a command line, beyond what its parser can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What a command that failed says last.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

const RELAY_HELP: &str = "\
Example (quoted, for the shell's sake):
  zafka relay 'kafka://127.0.0.1:9092/orders?group=edge&start=earliest' 'pub+tcp://127.0.0.1:5556?slow_peer=block&min_peers=1'

Only group, start, frames, slow_peer and min_peers can be given this way. Everything else wants a file: zafka run -c FILE.";

const EXIT_HELP: &str = "\
Exit status: 0 done, also by a signal; 1 it ran and failed; 2 the configuration or the command line is wrong.";

/// A lightweight relay between Apache Kafka and ZeroMQ.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_HELP)]
pub struct Cli {
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay what a configuration file says.
    Run(RunArgs),
    /// Relay one route, without a file.
    Relay(RelayArgs),
    /// Find every mistake of a configuration file.
    Check(CheckArgs),
    /// Subscribe to an endpoint and print its messages.
    Tap(TapArgs),
    /// Show the relay at work, with a Kafka broker inside this process.
    Demo(DemoArgs),
    /// Print the completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, in the format of man.
    Man(ManArgs),
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
    /// What to read, as a `kafka://` URL.
    #[arg(
        help = "What to read: kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]?group=NAME&start=earliest"
    )]
    pub source: String,
    /// Where to publish, as a `pub+tcp://` or `pub+ipc://` URL.
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
    /// Reach the brokers and authenticate too, and list the topics that each route would read.
    #[arg(long)]
    pub connect: bool,
}

/// `zafka tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Endpoint to connect to: tcp://HOST:PORT or ipc:///PATH.
    #[arg(value_parser = to_connect)]
    pub endpoint: Endpoint,
    /// Prefix of the routing frame to subscribe to; again for more. Everything without it. Where
    /// routing frames are not topics, gaps are then unknown: a prefix leaves records of a
    /// partition out.
    #[arg(long = "topic", value_name = "PREFIX")]
    pub topics: Vec<String>,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How messages are laid out: json, packed, batch or value; or the route's own templates, one
    /// each time or as a list: '["{topic}", "{offset:u64be}", "{value}"]'.
    #[arg(long, value_name = "FRAMES", default_value = "json")]
    pub frames: Vec<String>,
}

/// `zafka demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Endpoint that the demo serves.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5556")]
    pub bind: Endpoint,
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

/// What is said if standard output cannot be written to.
pub fn output_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))
}

/// The end of a command whose output cannot be written. Whoever stopped reading it knows why.
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
