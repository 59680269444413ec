//! Whether this worker reaches its servers, for whoever asks how it is doing.
//!
//! A worker with nothing to do would not notice that its result backend is away, and tell of health until the first task
//! comes. So it looks, every few seconds. A look reads; that nothing can be *written*, as when Redis is full, shows at
//! the records that wait.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taskq::backend::ResultBackendExt;
use taskq::internal::fault::full_message;
use taskq::message::TaskId;
use taskq::settings::Settings;
use tokio::time::{sleep, timeout};

use super::services::Services;

/// How often the result backend is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An answer that takes longer counts as none, until it comes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// What is known of the servers.
#[derive(Debug)]
pub(super) struct Reach {
    /// Where they are, without passwords.
    broker: String,
    results: String,
    faults: Mutex<Faults>,
}

/// Why the result backend is of no use at the moment, by what met it.
#[derive(Debug, Default)]
struct Faults {
    looking: Option<String>,
    writing: Option<String>,
}

impl Reach {
    /// Nothing is known yet of the servers that these settings name.
    pub(super) fn of(settings: &Settings) -> Self {
        let mut urls = settings.report();
        let mut url = |wanted| {
            let at = urls.iter().position(|(key, ..)| *key == wanted);
            at.map_or_else(String::new, |at| urls.swap_remove(at).1)
        };
        Self { broker: url("broker_url"), results: url("result_url"), faults: Mutex::default() }
    }

    /// What became of records that have to be written.
    pub(super) fn wrote(&self, fault: Option<&(dyn Error + 'static)>) {
        self.change(|faults| faults.writing = fault.map(full_message));
    }

    fn looked(&self, fault: Option<String>) {
        let is_away = fault.is_some();
        let was_away = self.change(|faults| std::mem::replace(&mut faults.looking, fault)).is_some();
        if was_away && !is_away {
            tracing::info!(url = self.results, "the result backend answers again");
        } else if is_away && !was_away {
            tracing::warn!(
                url = self.results,
                "the result backend does not answer; tasks keep their messages meanwhile"
            );
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What keeps this worker from its work, in words that follow its name and name the server.
    pub(super) fn trouble(&self, is_consuming: bool) -> Option<String> {
        let broker = (!is_consuming).then(|| format!("takes no messages from {}", self.broker));
        let fault = self.change(|faults| faults.writing.clone().or_else(|| faults.looking.clone()));
        let results = fault.map(|fault| format!("cannot use the result backend {} ({fault})", self.results));
        match (broker, results) {
            (Some(broker), Some(results)) => Some(format!("{broker} and {results}")),
            (broker, results) => broker.or(results),
        }
    }
}

/// Looks at the result backend until it is dropped.
pub(super) async fn look(services: Arc<Services>) {
    let Some(results) = &services.results else { return };
    // There is no such task; that nothing is known of it is an answer.
    let nobody = TaskId::new();
    loop {
        sleep(LOOK_EVERY).await;
        let mut answer = results.read_one(&nobody);
        let answer = match timeout(ANSWERS_WITHIN, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                services.reach.looked(Some("it does not answer".to_owned()));
                // It will say why, when it gives up.
                answer.await
            }
        };
        services.reach.looked(answer.err().map(|error| full_message(&error)));
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
        let reach = Reach::of(&settings);
        let full = std::io::Error::other("it is full");
        let (broker, results) =
            ("takes no messages from amqp://me:***@here/shop", "cannot use the result backend redis://:***@there:1/0");
        assert_eq!(reach.trouble(true), None);
        assert_eq!(reach.trouble(false).as_deref(), Some(broker));
        reach.looked(Some("it is silent".to_owned()));
        assert_eq!(reach.trouble(true), Some(format!("{results} (it is silent)")));
        reach.wrote(Some(&full));
        assert_eq!(reach.trouble(false), Some(format!("{broker} and {results} (it is full)")));
        // That it can be read does not mean that it takes anything.
        reach.looked(None);
        assert_eq!(reach.trouble(true), Some(format!("{results} (it is full)")));
        reach.wrote(None);
        assert_eq!(reach.trouble(true), None);
    }
}
