//! zafka: a lightweight relay between Apache Kafka and ZeroMQ.
#![forbid(unsafe_code)]

mod admin;
mod cli;
mod config;
mod demo;
mod open_files;
mod relay_url;
mod run;
mod tap;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, CommandError};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The demo shows messages, and the check its findings: not a log.
    let quiet = matches!(cli.command, Command::Demo(_) | Command::Check(_));
    cli.log.init(if quiet { "error" } else { "info" });
    match cli.command {
        Command::Check(args) => cli::check(&args, &mut std::io::stdout()).unwrap_or(ExitCode::FAILURE),
        Command::Run(args) => {
            cli::exit_code(config::load(&args.config).map_err(CommandError::from).and_then(|loaded| {
                cli::announce(&loaded);
                run::run(loaded.config)
            }))
        }
        Command::Relay(args) => {
            let admin = args.admin.map(|bind| config::AdminConfig { bind });
            let config = relay_url::relay(&args.source, &args.destination, admin);
            cli::exit_code(config.map_err(CommandError::from).and_then(|config| {
                cli::announce_urls(&config);
                run::run(config)
            }))
        }
        Command::Tap(args) => cli::exit_code(run::tap(args)),
        Command::Demo(args) => cli::exit_code(run::demo(args)),
    }
}
