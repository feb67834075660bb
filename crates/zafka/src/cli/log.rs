//! The log: to stderr, as text or as JSON.

use std::io;

use clap::{ArgAction, Args, ValueEnum};
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, Loaded, bind_warning};
use crate::open_files;
use crate::stderr;
use crate::terminal::takes_color;

/// Options of the log.
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
    /// Level of the log: error, warn, info, debug, trace, off, or directives such as
    /// zafka_kafka=debug. RUST_LOG if it is missing, and without that what suits the command.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = filter, help_heading = "Log")]
    log_level: Option<EnvFilter>,
    /// Log one level more than what suits the command; -vv: two.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Log",
          conflicts_with_all = ["log_level", "quiet"])]
    verbose: u8,
    /// Log one level less; -qq: two.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Log",
          conflicts_with = "log_level")]
    quiet: u8,
}

/// The levels, from the least to the most.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

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
        let environment = std::env::var_os("RUST_LOG");
        let environment = environment.as_ref().map(|text| text.to_string_lossy());
        let level = shifted(default, self.verbose, self.quiet);
        let is_shifted = self.verbose > 0 || self.quiet > 0;
        let (filter, malformed) = match (self.log_level, environment) {
            (Some(filter), _) => (filter, None),
            (None, Some(text)) if !is_shifted && !text.is_empty() => match filter(&text) {
                Ok(filter) => (filter, None),
                Err(why) => (at_level(level), Some(format!("found {text:?}; {why}"))),
            },
            (None, _) => (at_level(level), None),
        };
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr::Lines);
        let set = match self.log_format {
            LogFormat::Text => {
                let ansi = takes_color(&io::stderr());
                builder.with_ansi(ansi).finish().with(filter_fn(is_fit_to_log)).try_init()
            }
            LogFormat::Json => builder
                .json()
                .flatten_event(true)
                .finish()
                .with(filter_fn(is_fit_to_log))
                .try_init(),
        };
        set.map_err(io::Error::other)?;
        stderr::start()?;
        if let Some(malformed) = malformed {
            tracing::error!("RUST_LOG is ignored: {malformed}");
        }
        Ok(())
    }
}

/// The level so many steps from `default`, up or down.
fn shifted(default: &str, up: u8, down: u8) -> &'static str {
    let at = LEVELS.iter().position(|level| *level == default).unwrap_or_default();
    let at = (at + usize::from(up)).saturating_sub(usize::from(down));
    LEVELS.get(at).unwrap_or(&"trace")
}

/// Everything at one level, but for the client library's own log: what matters of it comes through
/// events, and closing a client that has left its group is an error to it.
fn at_level(level: &str) -> EnvFilter {
    EnvFilter::new(format!("{level},rdkafka=off"))
}

/// Returns true if a source of log lines never reveals a secret: the HTTP client dumps what it
/// sends and receives, tokens among it, at level trace.
fn is_fit_to_log(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("ureq_proto")
}

/// Parses directives; a text that is one word must be a level.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphabetic());
    if is_word && text.parse::<tracing::Level>().is_err() && text != "off" {
        return Err("allowed: error, warn, info, debug, trace, off, or directives such as \
                    zafka_kafka=debug"
            .to_owned());
    }
    if is_word {
        Ok(at_level(text))
    } else {
        EnvFilter::try_new(text).map_err(|error| error.to_string())
    }
}

/// Logs what in a command line may not be meant.
pub fn announce_urls(config: &Config) {
    open_files::warn_of_peers(&config.routes);
    if let Some(warning) = config.admin.as_ref().and_then(|admin| bind_warning(admin.bind)) {
        tracing::warn!("{warning}");
    }
}

/// Logs what in a file may not be meant.
pub fn announce(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!(line = warning.line, key = warning.key, "{}", warning.text);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn levels_are_shifted_within_bounds() {
        for (default, up, down, level) in [
            ("info", 0, 0, "info"),
            ("info", 1, 0, "debug"),
            ("info", 9, 0, "trace"),
            ("info", 0, 1, "warn"),
            ("error", 0, 2, "off"),
            ("error", 1, 0, "warn"),
        ] {
            assert_eq!(shifted(default, up, down), level, "{default} +{up} -{down}");
        }
    }

    #[test]
    fn one_way_to_say_it() {
        for (arguments, fine) in [
            (&["-v", "check"][..], true),
            (&["check", "-vv"], true),
            (&["run", "-q"], true),
            (&["run", "-v", "-q"], false),
            (&["run", "-v", "--log-level", "info"], false),
            (&["run", "-q", "--log-level", "info"], false),
        ] {
            let parsed = Cli::try_parse_from([&["zafka"], arguments].concat());
            assert_eq!(parsed.is_ok(), fine, "{arguments:?}");
        }
    }
}
