//! The command line: what the user typed. What it means is the commands' business.

mod access;
mod check;
mod connect;
mod control;
#[cfg(test)]
pub(crate) mod docs;
mod frames;
mod keygen;
mod log;
pub mod manual;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ContextValue;
use clap::{ArgGroup, Args, Parser, Subcommand};
use jiff::Timestamp;
use zafka_sockets::Endpoint;
use zafka_sockets::config::EndpointConfig;
use zafka_zmtp::curve::{ClientSide, KeyPair};
use zafka_zmtp::{Mechanism, Token};

use crate::config::{ConfigError, key_pair_in, public_key_in};
use crate::random::{new_key, random};
use crate::{redact, stderr};

pub use access::{access, token_in};
pub use check::check;
pub use control::{leases, revoke};
pub use frames::Frames;
pub use keygen::keygen;
pub use log::{LogArgs, announce, announce_urls};

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
  zafka relay 'kafka://127.0.0.1:9092/orders?group=edge&start=earliest' 'pub+tcp://127.0.0.1:5556?slow_peer=block&min_peers=1'

Only group, start, frames, slow_peer and min_peers can be given this way. Everything else wants a file: zafka run -c FILE.";

const EXIT_HELP: &str = "\
Exit status: 0 done, also by a signal; 1 it ran and failed; 2 the configuration or the command line is wrong.";

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
    /// Relay what a configuration file says. SIGHUP takes the file anew.
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

/// CURVE toward an endpoint that is connected to.
#[derive(Debug, Args)]
pub struct CurveArgs {
    /// File with the public key of the other side, which then has to prove it (CURVE).
    #[arg(long, value_name = "FILE")]
    pub server_key: Option<PathBuf>,
    /// File with our own secret key, as keygen writes it; a new key without it.
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub curve_key: Option<PathBuf>,
    /// File with a token to show inside CURVE, such as an access token of an OpenID Connect
    /// provider. It is read once: a connection that is lost comes back with the same token.
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub token_file: Option<PathBuf>,
    /// Show the token of the login that `zafka login` keeps, with the key of that login. The token
    /// is renewed as long as the command runs.
    #[arg(long, requires = "server_key", conflicts_with_all = ["curve_key", "token_file"])]
    pub login: bool,
}

impl CurveArgs {
    /// An endpoint to connect to, with CURVE if the file with the other side's key is named. `login`
    /// is the key and the token of a login, for `--login`.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn secured(
        &self,
        endpoint: Endpoint,
        login: Option<(KeyPair, Token)>,
    ) -> Result<EndpointConfig, UsageError> {
        let Some(server_key) = &self.server_key else { return Ok(endpoint.into()) };
        let server = public_key_in(server_key).map_err(UsageError)?.public;
        let (keys, token) = match (login, &self.token_file) {
            (Some((keys, token)), _) => (keys, Some(token)),
            (None, Some(path)) => (self.keys()?, Some(token_in(path).map_err(UsageError)?)),
            (None, None) => (self.keys()?, None),
        };
        let side = ClientSide { keys, server, token, random };
        Ok(EndpointConfig { endpoint, mechanism: Mechanism::CurveClient(Arc::new(side)) })
    }

    fn keys(&self) -> Result<KeyPair, UsageError> {
        match &self.curve_key {
            Some(path) => key_pair_in(path).map_err(UsageError),
            None => Ok(new_key()),
        }
    }
}

const LOGIN_HELP: &str = "\
It shows a page and a code, and waits until you have entered it there (device flow, RFC 8628). The \
provider has to know the client as a public one that may use this flow. Tokens are kept in \
$XDG_STATE_HOME/zafka (~/.local/state/zafka), which nobody else can read, with a new CURVE key. Another \
login takes the place of the one before.

Exit status: 0 logged in; 1 not; 2 the command line is wrong.";

/// `zafka login`.
#[derive(Debug, Args)]
#[command(after_help = LOGIN_HELP)]
pub struct LoginArgs {
    /// The issuer, as its tokens name it.
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// The id of the client at the provider.
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// A scope to ask for; again for more.
    #[arg(long, value_name = "SCOPE")]
    pub scope: Vec<String>,
    /// File with certificate authorities to trust (PEM); those of the system without it.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

const ACCESS_HELP: &str = "\
The token's issuer is asked for its keys, as the relay would ask. Nobody is asked whether the token was \
used already.

Exit status: 0 the token is taken; 1 it is not, or its issuer's keys cannot be fetched; 2 the command \
line or the configuration is wrong.";

/// `zafka access`.
#[derive(Debug, Args)]
#[command(after_help = ACCESS_HELP)]
pub struct AccessArgs {
    /// Configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "zafka.toml")]
    pub config: PathBuf,
    /// File with the token.
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// File with the public key of the peer that would show it, for a token that is bound to a key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

const ENROL_HELP: &str = "\
Example, beside a program that has the key and knows nothing of tokens:
  zafka enrol tcp://relay.example.org:5570 --server-key relay.key --curve-key plc-7.key_secret --token-file token.jwt --keep

On standard output, unless it is a terminal, is a line of JSON for each lease that begins or moves its \
end, and for each refusal.

Exit status: 0 the key is enrolled, with --keep also by a signal; 1 it is not; 2 the command line or a \
file that it names is wrong.";

/// `zafka enrol`.
#[derive(Debug, Args)]
#[command(after_help = ENROL_HELP)]
pub struct EnrolArgs {
    /// Endpoint of the door (the relay's `identity.bind`): tcp://HOST:PORT.
    #[arg(value_parser = to_connect)]
    pub endpoint: Endpoint,
    /// File with the public key of the relay, which has to prove it.
    #[arg(long, value_name = "FILE")]
    pub server_key: PathBuf,
    /// File with the secret key that is to be enrolled, as keygen writes it.
    #[arg(long, value_name = "FILE")]
    pub curve_key: PathBuf,
    /// File with the token, such as an access token of an OpenID Connect provider. It is read anew
    /// each time.
    #[arg(long, value_name = "FILE", required_unless_present = "login")]
    pub token_file: Option<PathBuf>,
    /// Send tokens of the login that `zafka login` keeps: of their own, since a token lets in one
    /// key.
    #[arg(long, conflicts_with = "token_file")]
    pub login: bool,
    /// Keep the lease: send the token every minute, or at half of a shorter lease, and after a
    /// connection that was lost.
    #[arg(long)]
    pub keep: bool,
    /// Give up if the key is not enrolled within so long; 0: never. With --keep it is never given up.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = patience)]
    pub timeout: Patience,
}

/// The control socket of a relay.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// Configuration file of the relay, which names its control socket (admin.control).
    #[arg(short, long, value_name = "FILE", default_value = "zafka.toml")]
    pub config: PathBuf,
    /// The control socket itself.
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub control: Option<PathBuf>,
}

const LEASES_HELP: &str = "\
On standard output, unless it is a terminal, is a line of JSON for each lease. Keys that are known by a \
file have none.

Exit status: 0 done; 1 the relay cannot be asked; 2 the command line or the configuration is wrong.";

/// `zafka leases`.
#[derive(Debug, Args)]
#[command(after_help = LEASES_HELP)]
pub struct LeasesArgs {
    /// The relay.
    #[command(flatten)]
    pub control: ControlArgs,
}

const REVOKE_HELP: &str = "\
Example:
  zafka revoke --subject alice

Exit status: 0 done; 1 the relay cannot be asked, or refuses; 2 the command line or the configuration \
is wrong.";

/// `zafka revoke`.
#[derive(Debug, Args)]
#[command(after_help = REVOKE_HELP)]
#[command(group = ArgGroup::new("what").required(true).args(["key", "subject", "jti", "kid", "issued_before"]))]
pub struct RevokeArgs {
    /// A key: its public file, or the key itself as `zafka leases` shows it.
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// A subject, with whatever key and token.
    #[arg(long)]
    pub subject: Option<String>,
    /// A token by its id.
    #[arg(long, value_name = "ID")]
    pub jti: Option<String>,
    /// Tokens that a key of an issuer signed, by the key's id; with --issuer.
    #[arg(long, value_name = "ID", requires = "issuer")]
    pub kid: Option<String>,
    /// Tokens that were issued before a time (RFC 3339, such as 2026-12-01T08:00:00Z) or do not say
    /// when; with --issuer.
    #[arg(long, value_name = "TIME", requires = "issuer")]
    pub issued_before: Option<Timestamp>,
    /// The issuer that is meant; any without it.
    #[arg(long, value_name = "ISSUER", conflicts_with = "key")]
    pub issuer: Option<String>,
    /// The time for which it holds at the least. It also holds until the last token that is meant has
    /// ended, as far as the relay was shown it.
    #[arg(long = "for", value_name = "TIME", default_value = "1d", value_parser = lasting)]
    pub lasts: Duration,
    /// The relay.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `zafka keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Name of the files, without their endings: NAME.key gets the public key, NAME.key_secret the
    /// secret one too. Files that are there are not replaced.
    pub name: PathBuf,
}

pub(crate) const SEND_HELP: &str = "\
Example:
  seq 1000 | zafka send tcp://127.0.0.1:5558 --topic orders --key customer-7

The frames have to be those of the route. On standard output, unless it is a terminal, is a line of \
JSON for each answer, and one with a summary. What a lost connection left without an answer is sent \
again, and may then be in the log twice.

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

/// Parses the time for which a revocation holds.
fn lasting(text: &str) -> Result<Duration, String> {
    let year = Duration::from_secs(366 * 24 * 3600);
    let read = crate::config::text::duration(text, Duration::from_secs(1), year);
    read.map_err(|wrong| format!("allowed: {}", wrong.allowed))
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
