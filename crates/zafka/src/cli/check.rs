//! `zafka check`: every mistake of a file, and what may not be meant.

use std::io::Write;
use std::process::ExitCode;

use super::CheckArgs;
use crate::config::checks::selector_text;
use crate::config::{Config, ConfigError, load};

/// Checks the file; 0 where it has no mistake, 1 where it has.
pub fn check(args: &CheckArgs, out: &mut dyn Write) -> std::io::Result<ExitCode> {
    let file = args.config.display();
    match load(&args.config) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(out, "{file}: warning: {warning}")?;
            }
            summary(&loaded.config, out)?;
            writeln!(out, "{file}: no mistakes")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(ConfigError::Mistakes { mistakes, .. }) => {
            for mistake in &mistakes {
                writeln!(out, "{file}: {mistake}")?;
            }
            let plural = if mistakes.len() == 1 { "" } else { "s" };
            writeln!(out, "{file}: {} mistake{plural}", mistakes.len())?;
            Ok(ExitCode::FAILURE)
        }
        Err(error @ ConfigError::Read { .. }) => {
            writeln!(out, "{error}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// One line for each route.
fn summary(config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    for route in &config.routes {
        let topics: Vec<_> = route.source.topics.iter().map(selector_text).collect();
        let bind = route.socket.bind.iter().map(ToString::to_string);
        let connect = route.socket.connect.iter().map(|endpoint| format!("{endpoint} (connects)"));
        let endpoints: Vec<_> = bind.chain(connect).collect();
        writeln!(out, "route {:?}: {} -> {}", route.name, topics.join(", "), endpoints.join(", "))?;
    }
    Ok(())
}
