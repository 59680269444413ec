//! Reachability: whether this worker reaches its servers, for its health.
//!
//! A worker with nothing to do would not notice that its result backend is away, and report itself healthy until the
//! first task comes. So it looks, every few seconds. A look reads; that nothing can be *written*, as when Redis is
//! full, shows at the records that wait.

use std::sync::Mutex;
use std::time::Duration;

use taskq::backend::{ResultBackend, ResultBackendExt};
use taskq::internal::fault::full_message;
use taskq::message::TaskId;
use taskq::settings::Settings;
use tokio::time::{sleep, timeout};

use super::lock::lock;
use super::observe::{Moment, Observer};

/// The time between two looks at the result backend.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The time after which an answer counts as none, until it comes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// The reachability of a worker's servers.
#[derive(Debug)]
pub(crate) struct Reachability {
    /// The URLs of the servers, without passwords.
    broker: String,
    results: String,
    faults: Mutex<Faults>,
}

/// The reasons why the result backend is of no use at the moment.
#[derive(Debug, Default)]
struct Faults {
    looking: Option<String>,
    writing: Option<String>,
}

impl Reachability {
    /// The reachability of the servers that these settings name; nothing is known of them yet.
    pub(crate) fn of(settings: &Settings) -> Self {
        let mut urls = settings.report();
        let mut url = |wanted| {
            let at = urls.iter().position(|setting| setting.key == wanted);
            at.map_or_else(String::new, |at| urls.swap_remove(at).value)
        };
        Self { broker: url("broker_url"), results: url("result_url"), faults: Mutex::default() }
    }

    fn looked(&self, fault: Option<String>) {
        let is_away = fault.is_some();
        let was_away = std::mem::replace(&mut lock(&self.faults).looking, fault).is_some();
        if was_away && !is_away {
            tracing::info!(url = self.results, "the result backend answers again");
        } else if is_away && !was_away {
            tracing::warn!(
                url = self.results,
                "the result backend does not answer; tasks keep their messages meanwhile"
            );
        }
    }

    /// The reason why this worker cannot work, in words that follow its name and name the server.
    pub(crate) fn problem(&self, is_consuming: bool) -> Option<String> {
        let broker = (!is_consuming).then(|| format!("takes no messages from {}", self.broker));
        let fault = {
            let faults = lock(&self.faults);
            faults.writing.clone().or_else(|| faults.looking.clone())
        };
        let results = fault.map(|fault| format!("cannot use the result backend {} ({fault})", self.results));
        match (broker, results) {
            (Some(broker), Some(results)) => Some(format!("{broker} and {results}")),
            (broker, results) => broker.or(results),
        }
    }

    /// Looks at the result backend until it is dropped.
    pub(crate) async fn look(&self, results: &dyn ResultBackend) {
        // There is no such task; that nothing is known of it is an answer.
        let nobody = TaskId::new();
        loop {
            sleep(LOOK_EVERY).await;
            let mut answer = results.read_one(&nobody);
            let answer = match timeout(ANSWERS_WITHIN, &mut answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.looked(Some("it does not answer".to_owned()));
                    // It will say why, when it gives up.
                    answer.await
                }
            };
            self.looked(answer.err().map(|error| full_message(&error)));
        }
    }
}

impl Observer for Reachability {
    fn observe(&self, moment: &Moment<'_>) {
        match moment {
            Moment::RecordsWait { error, .. } => lock(&self.faults).writing = Some(full_message(*error)),
            Moment::RecordsWritten => lock(&self.faults).writing = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_named_and_no_password() {
        let mut settings = Settings::default();
        for (key, url) in [("broker_url", "amqp://me:secret@here/shop"), ("result_url", "redis://:secret@there:1/0")] {
            settings.set(key, url, taskq::settings::Origin::Code).expect("it is a URL");
        }
        let reachability = Reachability::of(&settings);
        let full = std::io::Error::other("it is full");
        let (broker, results) =
            ("takes no messages from amqp://me:***@here/shop", "cannot use the result backend redis://:***@there:1/0");
        assert_eq!(reachability.problem(true), None);
        assert_eq!(reachability.problem(false).as_deref(), Some(broker));
        reachability.looked(Some("it is silent".to_owned()));
        assert_eq!(reachability.problem(true), Some(format!("{results} (it is silent)")));
        reachability.observe(&Moment::RecordsWait { count: 1, error: &full });
        assert_eq!(reachability.problem(false), Some(format!("{broker} and {results} (it is full)")));
        // That it can be read does not mean that it takes anything.
        reachability.looked(None);
        assert_eq!(reachability.problem(true), Some(format!("{results} (it is full)")));
        reachability.observe(&Moment::RecordsWritten);
        assert_eq!(reachability.problem(true), None);
    }
}
