//! Reachability: whether this worker reaches its servers, for its health.
//!
//! A worker with nothing to do would not notice that its result backend is away, and report itself healthy until the
//! first task comes. So it looks, every few seconds. A look reads; that nothing can be *written*, as when Redis is
//! full, shows at the records that wait. That a task cannot be settled for another reason, as when the dead set takes
//! nothing, shows at the steps that have waited for long.

use std::sync::Mutex;
use std::time::Duration;

use taskq::backend::{ResultBackend, ResultBackendExt};
use taskq::internal::fault::full_message;
use taskq::message::TaskId;
use taskq::settings::Settings;
use tokio::time::{Instant, sleep, timeout};

use super::lock::lock;
use super::observe::{Moment, Observer};

/// The time between two looks at the result backend.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The time for which a step may wait before the worker counts as unhealthy: outages that clients sit out are no news.
const WAITS_MAX: Duration = Duration::from_secs(10);

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
    steps: Vec<WaitingStep>,
}

/// The steps of one kind that wait.
#[derive(Debug)]
struct WaitingStep {
    what: &'static str,
    /// The number of steps that wait.
    count: usize,
    since: Instant,
    /// The error of the last try.
    error: String,
}

impl Faults {
    fn step_waits(&mut self, what: &'static str, error: String, again: bool) {
        match self.steps.iter_mut().find(|step| step.what == what) {
            Some(step) => {
                step.count += usize::from(!again);
                step.error = error;
            }
            None => self.steps.push(WaitingStep { what, count: 1, since: Instant::now(), error }),
        }
    }

    fn step_waits_no_more(&mut self, what: &'static str) {
        self.steps.retain_mut(|step| {
            step.count -= usize::from(step.what == what);
            step.count > 0
        });
    }
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
        self.problem_at(is_consuming, Instant::now())
    }

    fn problem_at(&self, is_consuming: bool, now: Instant) -> Option<String> {
        let broker = (!is_consuming).then(|| format!("takes no messages from {}", self.broker));
        let faults = lock(&self.faults);
        let results = faults.writing.as_ref().or(faults.looking.as_ref());
        let results = results.map(|fault| format!("cannot use the result backend {} ({fault})", self.results));
        let waits = faults.steps.iter().find(|step| now.duration_since(step.since) >= WAITS_MAX).map(|step| {
            let WaitingStep { what, count, error, .. } = step;
            format!("cannot settle {count} task{}: {what} fails ({error})", if *count == 1 { "" } else { "s" })
        });
        let problems: Vec<String> = [broker, results, waits].into_iter().flatten().collect();
        (!problems.is_empty()).then(|| problems.join(" and "))
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
            Moment::StepWaits { what, error, again } => {
                lock(&self.faults).step_waits(what, full_message(*error), *again);
            }
            Moment::StepWaitsNoMore { what } => lock(&self.faults).step_waits_no_more(what),
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

    #[test]
    fn a_step_that_waits_for_long_is_a_problem_until_all_of_its_kind_are_done() {
        let reachability = Reachability::of(&Settings::default());
        let full = std::io::Error::other("it is full");
        let waits = |again| reachability.observe(&Moment::StepWaits { what: "publishing", error: &full, again });
        let done = || reachability.observe(&Moment::StepWaitsNoMore { what: "publishing" });
        waits(false);
        waits(true);
        assert_eq!(reachability.problem(true), None, "it may pass");
        let later = Instant::now() + WAITS_MAX;
        let problem = || reachability.problem_at(true, later);
        let one = "cannot settle 1 task: publishing fails (it is full)";
        assert_eq!(problem().as_deref(), Some(one));
        waits(false);
        assert_eq!(problem().as_deref(), Some("cannot settle 2 tasks: publishing fails (it is full)"));
        done();
        assert_eq!(problem().as_deref(), Some(one));
        done();
        assert_eq!(problem(), None);
    }
}
