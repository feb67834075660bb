//! The command line: what the user typed. What it means is the commands' business.

mod check;
mod log;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use zafka_envelope::Preset;
use zafka_sockets::Endpoint;

pub use check::check;
pub use log::{LogArgs, announce};

/// The usage or the configuration is wrong.
pub const EXIT_USAGE: u8 = 2;

/// What a command that failed says last.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// A lightweight relay between Apache Kafka and ZeroMQ.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
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
pub struct RelayArgs {
    /// `kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]?group=NAME&start=earliest`
    pub source: String,
    /// `pub+tcp://HOST:PORT?frames=json&slow_peer=block&min_peers=1`; `pub+connect+tcp://` connects, `pub+ipc:///PATH`
    /// is local
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
}

/// `zafka tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Endpoint to connect to: tcp://HOST:PORT or ipc:///PATH.
    pub endpoint: Endpoint,
    /// Prefix of the routing frame to subscribe to; again for more. Everything without it.
    #[arg(long = "topic", value_name = "PREFIX")]
    pub topics: Vec<String>,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How messages are laid out: json, packed, batch or value.
    #[arg(long, value_name = "PRESET", default_value = "json")]
    pub frames: Preset,
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

/// Says why a command failed, and turns that into an exit code.
pub fn exit_code(result: Result<(), CommandError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("zafka: {error}");
    if error.is::<crate::config::ConfigError>() { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}
