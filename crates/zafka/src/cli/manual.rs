//! Shell completions and manual pages, made from the command line's own definition.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, UsageError};

/// Writes the completions for a shell.
///
/// # Errors
/// `out` cannot be written to.
pub fn completions(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator would panic at an error of the writer.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "zafka", &mut text);
    out.write_all(&text)?;
    out.flush()
}

/// The manual page of the program, or of one of its commands, in the format of `man`.
///
/// # Errors
/// There is no such command.
pub fn page(command: Option<&str>) -> Result<Man, UsageError> {
    let mut program = Cli::command();
    program.build();
    let Some(name) = command else { return Ok(Man::new(program)) };
    let found = program.get_subcommands().find(|command| command.get_name() == name);
    let found = found.ok_or_else(|| {
        let names: Vec<_> = program.get_subcommands().map(|command| command.get_name()).collect();
        UsageError(format!("found no command {name:?}; allowed: {}", names.join(", ")))
    })?;
    Ok(Man::new(found.clone()).title(format!("zafka-{name}")))
}

/// Writes a manual page.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(page: &Man, out: &mut dyn Write) -> io::Result<()> {
    page.render(out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in Shell::value_variants() {
            let mut text = Vec::new();
            completions(*shell, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            for word in ["relay", "check", "tap", "send", "log-level"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn pages_of_the_program_and_its_commands() {
        let text = |command| {
            let mut text = Vec::new();
            write(&page(command).unwrap(), &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let program = text(None);
        assert!(program.starts_with(".ie") && program.contains(".SH SYNOPSIS"), "{program}");
        assert!(program.contains("Exit status"), "{program}");
        assert!(text(Some("tap")).contains("frames"));
        let error = page(Some("tapp")).err().unwrap().to_string();
        assert!(error.contains("\"tapp\"; allowed: run, relay"), "{error}");
    }
}
