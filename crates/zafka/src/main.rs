//! zafka: a lightweight relay between Apache Kafka and ZeroMQ.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

mod admin;
mod blocking;
mod cli;
mod config;
mod control;
mod demo;
mod enrol;
mod health;
mod hosts;
mod identity;
mod introspection;
mod issuer_keys;
mod key_folder;
mod login;
mod open_files;
mod random;
mod redact;
mod relay_url;
mod reload;
mod run;
mod secret_file;
mod send;
mod signals;
mod status_line;
mod stderr;
mod tap;
mod terminal;
mod time_text;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, CommandError};

fn main() -> ExitCode {
    let code = run(Cli::try_parse().unwrap_or_else(|error| cli::redacted(error).exit()));
    stderr::flush();
    code
}

fn run(cli: Cli) -> ExitCode {
    // The demo shows messages, and the check its findings: not a log.
    let quiet = matches!(cli.command, Command::Demo(_) | Command::Check(_) | Command::Access(_));
    if let Err(error) = cli.log.init(if quiet { "error" } else { "info" }) {
        // Nothing else would report it, and a failure of this cannot be reported.
        let _ = writeln!(std::io::stderr(), "zafka: the log cannot be set up: {error}");
        return ExitCode::FAILURE;
    }
    match cli.command {
        Command::Check(args) => {
            let mut wrong = Vec::new();
            let code = cli::check(&args, &mut std::io::stdout(), &mut wrong);
            if !wrong.is_empty() {
                stderr::say(String::from_utf8_lossy(&wrong).trim_end());
            }
            code.unwrap_or_else(cli::output_failed)
        }
        Command::Run(args) => cli::exit_code(
            config::load(&args.config).map_err(CommandError::from).and_then(|loaded| {
                cli::announce(&loaded);
                run::run(loaded.config, Some(&args.config))
            }),
        ),
        Command::Relay(args) => {
            let admin = args.admin.map(config::AdminConfig::at);
            let config = relay_url::relay(&args.source, &args.destination, admin);
            cli::exit_code(config.map_err(CommandError::from).and_then(|config| {
                cli::announce_urls(&config);
                run::run(config, None)
            }))
        }
        Command::Access(args) => cli::exit_code(cli::access(&args, &mut std::io::stdout())),
        Command::Login(args) => cli::exit_code(login::login(&args, &mut std::io::stdout())),
        Command::Keygen(args) => cli::exit_code(cli::keygen(&args, &mut std::io::stdout())),
        Command::Tap(args) => cli::exit_code(run::tap(args)),
        Command::Send(args) => cli::exit_code(run::send(&args)),
        Command::Enrol(args) => cli::exit_code(run::enrol(args)),
        Command::Leases(args) => cli::exit_code(run::leases(args)),
        Command::Revoke(args) => cli::exit_code(run::revoke(args)),
        Command::Demo(args) => cli::exit_code(run::demo(args)),
        Command::Health(args) => cli::exit_code(run::health(args)),
        Command::Completions(args) => {
            let written = cli::manual::completions(args.shell, &mut std::io::stdout());
            written.map_or_else(cli::output_failed, |()| ExitCode::SUCCESS)
        }
        Command::Man(args) => match cli::manual::page(args.command.as_deref()) {
            Ok(page) => {
                let written = cli::manual::write(&page, &mut std::io::stdout());
                written.map_or_else(cli::output_failed, |()| ExitCode::SUCCESS)
            }
            Err(error) => cli::exit_code(Err(error.into())),
        },
    }
}
