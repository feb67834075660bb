//! The log: to stderr, as text or as JSON.

use std::io;

use clap::{Args, ValueEnum};
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, Loaded, bind_warning};
use crate::open_files;
use crate::stderr;

/// How to log.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Format of the log on stderr.
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        global = true,
        default_value = "text",
        help_heading = "Log"
    )]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, trace, off, or directives such as zafka_kafka=debug. RUST_LOG where it is
    /// missing, and without that what suits the command.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = filter, help_heading = "Log")]
    log_level: Option<EnvFilter>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogArgs {
    /// Sets the log up for this process, at `default` unless something else was asked for.
    ///
    /// # Errors
    /// It is set up already, or its thread cannot be started.
    pub fn init(self, default: &str) -> io::Result<()> {
        let filter = self
            .log_level
            .or_else(|| EnvFilter::try_from_default_env().ok())
            .unwrap_or_else(|| at_level(default));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr::Lines);
        let set = match self.log_format {
            LogFormat::Text => {
                let ansi = io::IsTerminal::is_terminal(&io::stderr());
                builder.with_ansi(ansi).finish().with(filter_fn(is_fit_to_log)).try_init()
            }
            LogFormat::Json => {
                builder.json().flatten_event(true).finish().with(filter_fn(is_fit_to_log)).try_init()
            }
        };
        set.map_err(io::Error::other)?;
        stderr::start()
    }
}

/// Everything at one level, but for the client library's own log: what matters of it comes through events, and closing
/// a client that has left its group is an error to it.
fn at_level(level: &str) -> EnvFilter {
    EnvFilter::new(format!("{level},rdkafka=off"))
}

/// Whether a source of log lines never tells a secret: the HTTP client dumps what it sends and receives, tokens
/// among it, at level trace.
fn is_fit_to_log(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("ureq_proto")
}

/// Parses directives; a text that is one word must be a level.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphabetic());
    if is_word && text.parse::<tracing::Level>().is_err() && text != "off" {
        return Err("allowed: error, warn, info, debug, trace, off, or directives such as zafka_kafka=debug"
            .to_owned());
    }
    if is_word { Ok(at_level(text)) } else { EnvFilter::try_new(text).map_err(|error| error.to_string()) }
}

/// Logs what in a command line may not be meant.
pub fn announce_urls(config: &Config) {
    open_files::warn_of_peers(&config.routes);
    if let Some(warning) = config.admin.and_then(|admin| bind_warning(admin.bind)) {
        tracing::warn!("{warning}");
    }
}

/// Logs what in a file may not be meant.
pub fn announce(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!(line = warning.line, key = warning.key, "{}", warning.text);
    }
}
