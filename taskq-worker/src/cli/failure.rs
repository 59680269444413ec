//! The failure of a command: its message and its exit code.

use std::error::Error;
use std::io;

use taskq::backend::BackendError;
use taskq::broker::{BrokerError, PublishError};
use taskq::definition::RegistryError;
use taskq::internal::fault::full_message;
use taskq::internal::{shortage, shown};
use taskq::settings::ConfigError;
use taskq_beat::entry::Mistakes;
use taskq_beat::{BeatError, RunNowError};

use super::exit::Exit;
use crate::engine::WorkerError;

/// The reason why a command failed, in one line, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The message for stderr; `None` where the reader has gone away.
    message: Option<String>,
}

impl Failure {
    /// Creates a failure with this message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(one_line(&message.into())) }
    }

    /// Creates a failure from an error, its causes included.
    pub fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        Self::new(exit, full_message(error))
    }

    /// Creates the failure of a program that the system does not give what it needs.
    pub(super) fn cannot_start(error: &io::Error) -> Self {
        let failure = Self::new(Exit::CannotStart, format!("this program cannot start: {error}"));
        let is_told = error.to_string().contains(shortage::REMEDY);
        if shortage::is_cause_of(error) && !is_told { failure.and(shortage::REMEDY) } else { failure }
    }

    /// Creates the failure to write an answer. A reader that has seen enough and gone away (`| head`) is no fault.
    pub(super) fn unwritten(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Ok, message: None },
            _ => Self::new(Exit::Unwritten, format!("the answer cannot be written: {error}")),
        }
    }

    /// Adds what was done before the answer could not be written, so that nobody does it again: `the task 7 was sent`.
    #[must_use]
    pub fn after(mut self, done: impl FnOnce() -> String) -> Self {
        if let (Exit::Unwritten, Some(message)) = (self.exit, &mut self.message) {
            message.insert_str(0, &format!("{}, but ", one_line(&done())));
        }
        self
    }

    /// Appends a remedy to the message.
    #[must_use]
    pub fn and(mut self, remedy: &str) -> Self {
        if let Some(message) = &mut self.message {
            message.push_str("; ");
            message.push_str(&one_line(remedy));
        }
        self
    }

    /// Creates a failure with several messages, one a line.
    pub(super) fn lines<'a>(exit: Exit, lines: impl IntoIterator<Item = &'a str>) -> Self {
        let lines: Vec<String> = lines.into_iter().map(one_line).collect();
        Self { exit, message: Some(lines.join("\nerror: ")) }
    }

    /// Returns the message for stderr.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// Puts a text on one line, without characters that could control a terminal. Parsers quote the line that they could
/// not read, which may hold a password, and draw an arrow below it; both are left out.
fn one_line(text: &str) -> String {
    let drawing = |line: &str| {
        line.trim_start().trim_start_matches(|sign: char| sign.is_ascii_digit()).trim_start().starts_with('|')
    };
    let lines: Vec<&str> =
        text.lines().filter(|line| !drawing(line)).map(str::trim).filter(|line| !line.is_empty()).collect();
    shown::line(&lines.join(": ")).into_owned()
}

fn broker_exit(error: &BrokerError) -> Exit {
    match error {
        BrokerError::Url { .. } | BrokerError::Mismatch { .. } => Exit::Config,
        BrokerError::NoQueue { .. } => Exit::NotFound,
        BrokerError::QueueName { .. } => Exit::Usage,
        _ => Exit::Unreachable,
    }
}

fn backend_exit(error: &BackendError) -> Exit {
    match error {
        BackendError::Url { .. } => Exit::Config,
        _ => Exit::Unreachable,
    }
}

fn client_exit(error: &taskq::Error) -> Exit {
    use taskq::Error as E;
    match error {
        E::Config(_) | E::NoResultBackend => Exit::Config,
        E::Registry(_) | E::System(_) => Exit::CannotStart,
        E::Call { .. } | E::ResultIgnored { .. } => Exit::Usage,
        E::Publish(error) if error.is_permanent() => Exit::Usage,
        E::NoResultYet { .. } => Exit::TimedOut,
        E::Failed { .. } | E::Revoked { .. } => Exit::TaskFailed,
        E::NotDead { .. } | E::Publish(PublishError::Unroutable { .. }) => Exit::NotFound,
        E::Broker(error) | E::Publish(PublishError::Broker(error)) => broker_exit(error),
        E::Backend(error) => backend_exit(error),
        _ => Exit::Unreachable,
    }
}

impl From<taskq::Error> for Failure {
    fn from(error: taskq::Error) -> Self {
        Self::of(client_exit(&error), &error)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::of(broker_exit(&error), &error)
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::of(backend_exit(&error), &error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(Exit::Config, &error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let failure = Self::of(Exit::CannotStart, &error);
        match error {
            RegistryError::Empty => failure.and("or name the program that holds them: `taskq -A path/to/app worker`"),
            _ => failure,
        }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Registry(error) => error.into(),
            WorkerError::Client(error) => error.into(),
            WorkerError::ConsumptionEnded => Self::of(Exit::Unreachable, &error),
            error => Self::of(Exit::Usage, &error),
        }
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        Self::lines(Exit::Config, lines.iter().map(String::as_str))
    }
}

impl From<RunNowError> for Failure {
    fn from(error: RunNowError) -> Self {
        match error {
            RunNowError::NotSent(error) => error.into(),
            error => Self::of(Exit::Unreachable, &error),
        }
    }
}

impl From<BeatError> for Failure {
    fn from(error: BeatError) -> Self {
        match error {
            BeatError::Entries(mistakes) => mistakes.into(),
            BeatError::Registry(error) => error.into(),
            BeatError::Store(error) => error.into(),
            error => Self::of(Exit::Config, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once_and_on_one_line() {
        let source = io::Error::other("connection reset").into();
        let failure = Failure::from(BrokerError::Failed { what: "the purge of \"mail\"".into(), source });
        let expected = "the broker did not carry out the purge of \"mail\": connection reset";
        assert_eq!((failure.exit, failure.message()), (Exit::Unreachable, Some(expected)));
    }

    #[test]
    fn names_of_others_are_escaped() {
        let failure = Failure::new(Exit::NotFound, "no task \"\x1b[2J\u{202e}7\"").and("see \u{9b}2J");
        assert_eq!(failure.message(), Some("no task \"\\u{1b}[2J\\u{202e}7\"; see \\u{9b}2J"));
        let failure = Failure::lines(Exit::Config, ["taskq.toml: \r\x07", "b"]);
        assert_eq!(failure.message(), Some("taskq.toml: \\r\\u{7}\nerror: b"));
    }

    #[test]
    fn what_was_done_is_told_although_the_answer_is_lost() {
        let sent = || "the task 7 was sent".to_owned();
        let full = Failure::unwritten(&io::ErrorKind::StorageFull.into()).after(sent);
        assert_eq!(full.exit, Exit::Unwritten);
        let message = full.message().expect("it says something");
        assert!(message.starts_with("the task 7 was sent, but the answer cannot be written: "), "{message}");
        let gone = Failure::unwritten(&io::ErrorKind::BrokenPipe.into()).after(sent);
        assert_eq!((gone.exit, gone.message()), (Exit::Ok, None), "nobody wants to know");
        assert_eq!(Failure::new(Exit::Usage, "x").after(sent).message(), Some("x"), "it was not done");
    }

    #[test]
    fn a_drawn_line_is_left_out_since_it_may_hold_a_password() {
        let drawn =
            "TOML parse error at line 1, column 9\n  |\n1 | url = \"amqp://u:secret@h\n  |  ^\ninvalid string\n";
        assert_eq!(one_line(drawn), "TOML parse error at line 1, column 9: invalid string");
    }

    #[test]
    fn an_empty_program_is_told_both_remedies() {
        let failure = Failure::from(RegistryError::Empty);
        let message = failure.message().expect("it says something");
        assert!(message.contains("as _;") && message.contains("taskq -A path/to/app worker"), "{message}");
    }
}
