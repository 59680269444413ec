//! The exit codes of commands, documented here and in `--help`.

use std::process::ExitCode;

/// The exit code of a command. The numbers are a promise to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The task that was waited for failed or was revoked.
    TaskFailed = 1,
    /// The command was used wrongly, or not confirmed.
    Usage = 2,
    /// A setting is missing or cannot be used.
    Config = 3,
    /// The broker or the result backend cannot be reached, refuses, or did not do what was asked; or the program's own
    /// setup failed.
    Unreachable = 4,
    /// There is no such queue, no such dead task, or no worker that answers.
    NotFound = 5,
    /// The task did not end in the time given.
    TimedOut = 6,
    /// The program cannot start: no tasks, two of one name, or too few files or threads for it.
    CannotStart = 7,
    /// The worker was stopped before its tasks had ended; they were given back and run again.
    Interrupted = 8,
    /// The worker's processes died again and again while they started.
    CrashLoop = 9,
    /// Under torture tasks were lost, stuck, or repeated more often than is allowed, or a fault could not strike.
    PromiseBroken = 10,
    /// The answer could not be written to stdout. What the command was to do is done.
    Unwritten = 11,
    /// The beat has ended by a fault; a worker that was a beat as well has drained. It may be started again.
    BeatFailed = 12,
}

/// The exit codes as the end of `--help` explains them.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  the task that was waited for failed or was revoked (call --wait, result, watch)
  2  the command was used wrongly, or not confirmed
  3  a setting is missing or cannot be used
  4  the broker or the result backend cannot be reached, refuses, or did not do what was asked;
     or the program's own setup failed
  5  there is no such queue, no such dead task, or no worker that answers
  6  the task did not end in the time given
  7  the program cannot start: no tasks, two of one name, or too few files or threads for it
  8  the worker was stopped before its tasks had ended; they were given back and run again
  9  the worker's processes died again and again while they started
  10 taskq torture: the promise was broken, or a fault could not strike
  11 the answer could not be written to stdout (a full disk); what the command was to do is done
  12 the beat (beat, worker -B) has ended by a fault, and can be started again

A reader that goes away before everything was written (`| head`) is no fault: 0.";

impl Exit {
    /// Returns the number.
    pub(super) fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        for code in 0..=Exit::BeatFailed.code() {
            assert!(HELP.contains(&format!("\n  {code:<2} ")), "{code} is missing");
        }
    }
}
