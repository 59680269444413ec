//! Questions to the RabbitMQ of the tests, answered by one Erlang VM for the whole process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/services");

/// The number of messages in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Waiting to be delivered.
    pub ready: u64,
    /// With a consumer, and not acknowledged.
    pub unacked: u64,
}

/// A session of `scripts/services control`. It ends with the process, which closes its stdin.
#[derive(Debug)]
pub(super) struct RabbitControl {
    folder: PathBuf,
    _child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The session of this process, once there was a question.
static SESSION: Mutex<Option<RabbitControl>> = Mutex::new(None);

impl RabbitControl {
    /// Asks the broker of the servers in `folder`, and returns the lines of its answer.
    ///
    /// # Errors
    ///
    /// The reason, if the broker refuses.
    ///
    /// # Panics
    ///
    /// If no session can be started, or it ends.
    pub(super) fn ask(folder: &Path, question: &str) -> Result<Vec<String>, String> {
        // A test that failed between question and answer leaves a session that cannot be used.
        let mut session = SESSION.lock().unwrap_or_else(|poisoned| {
            SESSION.clear_poison();
            let mut session = PoisonError::into_inner(poisoned);
            *session = None;
            session
        });
        let session = match &mut *session {
            Some(session) if session.folder == folder => session,
            other => other.insert(Self::start(folder)),
        };
        writeln!(session.questions, "{question}").expect("the session lives as long as the process");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let length = session.answers.read_line(&mut line).expect("an answer is text");
            assert!(length > 0, "scripts/services control ended without an answer to {question:?}");
            let line = line.trim_end();
            if line == "." {
                return Ok(lines);
            }
            if let Some(reason) = line.strip_prefix("! ") {
                return Err(format!("{question}: {reason}"));
            }
            lines.push(line.to_owned());
        }
    }

    /// The queues of a virtual host, with their counts. Those of quorum queues may be some seconds old.
    pub(super) fn queues(folder: &Path, vhost: &str) -> BTreeMap<String, Count> {
        let lines = Self::ask(folder, &format!("queues {vhost}")).unwrap_or_else(|reason| panic!("{reason}"));
        let queue = |line: &String| {
            let mut words = line.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_else(|| panic!("a queue has two counts and a name: {line:?}"));
            let (ready, unacked, name) = (next(), next(), next());
            let number = |text: &str| text.parse().expect("a count is a number");
            (name.to_owned(), Count { ready: number(ready), unacked: number(unacked) })
        };
        lines.iter().map(queue).collect()
    }

    fn start(folder: &Path) -> Self {
        let mut command = Command::new(SERVICES);
        command.arg("control").env("TASKQ_SERVICES_DIR", folder);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("scripts/services can be run");
        let questions = child.stdin.take().expect("stdin is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Self { folder: folder.to_owned(), _child: child, questions, answers }
    }
}
