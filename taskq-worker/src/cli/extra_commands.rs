//! The seam by which the program `taskq` adds commands to those that every worker program has.

use std::process::ExitCode;

use clap::{CommandFactory, Subcommand};

use super::command_line::{self, CommandLine};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::setup::Setup;

/// Commands that a program has beside those of every worker program.
pub trait ExtraCommands: Subcommand {
    /// Runs the command.
    fn run(self, session: &Session) -> Result<Exit, Failure>;

    /// Returns whether the command sets up the log itself. Otherwise only warnings and errors are logged.
    fn sets_up_log(&self) -> bool {
        false
    }
}

/// No extra commands: the command line of a worker program.
#[derive(Debug, Subcommand)]
pub(super) enum NoExtraCommands {}

impl ExtraCommands for NoExtraCommands {
    fn run(self, _session: &Session) -> Result<Exit, Failure> {
        match self {}
    }
}

/// Runs the command line with these extra commands, and returns its exit code.
pub fn main_of<E: ExtraCommands>() -> ExitCode {
    command_line::run::<E>(Setup::default())
}

/// Checks whether [`main_of`] accepts this command line, which begins with the program's name. Returns the reason if it
/// does not.
pub fn understands_of<E: ExtraCommands, W: AsRef<str>>(line: &[W]) -> Result<(), String> {
    command_line::parses::<E, W>(line)
}

/// Checks that all commands are well formed, and that each that is shown has an example in its help.
///
/// # Panics
///
/// If one is not, or has none.
pub fn check_commands<E: ExtraCommands>() {
    let command_line = CommandLine::<E>::command();
    command_line.clone().debug_assert();
    for command in command_line.get_subcommands().filter(|command| !command.is_hide_set()) {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("\nExample"), "{} has none:\n{help}", command.get_name());
    }
}
