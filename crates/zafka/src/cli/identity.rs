//! Arguments about keys, tokens and leases: of the commands that handle them, and of those that
//! show them to an endpoint.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use zafka_sockets::Endpoint;
use zafka_sockets::config::EndpointConfig;
use zafka_zmtp::curve::{ClientSide, KeyPair};
use zafka_zmtp::{Mechanism, Token};

use super::{Patience, UsageError, patience, to_connect, token_in};
use crate::config::{key_pair_in, public_key_in};
use crate::random::{new_key, random};

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
    /// An endpoint to connect to, with CURVE if the file with the other side's key is named.
    /// `login` is the key and the token of a login, for `--login`.
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
$XDG_STATE_HOME/zafka (~/.local/state/zafka), which nobody else can read, with a new CURVE key. \
Another login takes the place of the one before.

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
The token's issuer is asked for its keys, as the relay would ask. Nobody is asked whether the \
token was used already.

Exit status: 0 the token is taken; 1 it is not, or its issuer's keys cannot be fetched; 2 the \
command line or the configuration is wrong.";

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
  zafka enrol tcp://relay.example.org:5570 --server-key relay.key --curve-key plc-7.key_secret \
--token-file token.jwt --keep

On standard output, unless it is a terminal, is a line of JSON for each lease that begins or moves \
its end, and for each refusal.

Exit status: 0 the key is enrolled, with --keep also by a signal; 1 it is not; 2 the command line \
or a file that it names is wrong.";

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
    /// File with the token, such as an access token of an OpenID Connect provider. It is read again
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
    /// Give up if the key is not enrolled within so long; 0: never. With --keep it is never given
    /// up.
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
On standard output, unless it is a terminal, is a line of JSON for each lease. Keys that are known \
by a file have none.

Exit status: 0 done; 1 the relay cannot be asked; 2 the command line or the configuration is \
wrong.";

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

Exit status: 0 done; 1 the relay cannot be asked, or refuses; 2 the command line or the \
configuration is wrong.";

/// `zafka revoke`.
#[derive(Debug, Args)]
#[command(after_help = REVOKE_HELP)]
#[command(group = ArgGroup::new("what")
    .required(true)
    .args(["key", "subject", "jti", "kid", "issued_before"]))]
pub struct RevokeArgs {
    /// A key: its public file, or the key itself as `zafka leases` shows it.
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// A subject, with any key and token.
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
    /// The time for which it holds at the least. It also holds until the last token that is meant
    /// has ended, as far as the relay was shown it.
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

/// Parses the time for which a revocation holds.
fn lasting(text: &str) -> Result<Duration, String> {
    let year = Duration::from_secs(366 * 24 * 3600);
    let read = crate::config::text::duration(text, Duration::from_secs(1), year);
    read.map_err(|wrong| format!("allowed: {}", wrong.allowed))
}
