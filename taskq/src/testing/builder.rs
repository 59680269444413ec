//! The builder of a test's queue.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use super::TestQueue;
use super::current::{self, Refused};
use super::parts::QueueParts;
use crate::attempt::{self, FreeSlots};
use crate::backend::memory::MemoryBackend;
use crate::backend::{Backend, BackendOptions, SharedResults};
use crate::broker::BrokerOptions;
use crate::broker::memory::MemoryBroker;
use crate::canvas::IntoDuration;
use crate::client::Client;
use crate::clock::Clock;
use crate::definition::Registry;
use crate::settings::{Origin, Settings, duration_text};

/// The number of runs after which a drain counts as endless.
const RUNS_MAX: usize = 10_000;

/// The time for which `Handle::get` waits by default. A task that has not run by then waits for a drain that is
/// missing.
const GET_TIMEOUT: Duration = Duration::from_secs(5);

/// A builder of a [`TestQueue`].
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    settings: Settings,
    state: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    registry: Option<Registry>,
    now: Option<DateTime<Utc>>,
    runs_max: usize,
}

impl Default for Builder {
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.get_timeout = GET_TIMEOUT;
        Self { settings, state: HashMap::new(), registry: None, now: None, runs_max: RUNS_MAX }
    }
}

impl Builder {
    /// Adds a value that tasks ask for by its type, `ctx.state::<T>()`, as with a worker.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.state.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// Runs these tasks in place of all that are linked.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Takes these settings, for example those of the project's `taskq.toml`, except the URLs. Otherwise the defaults
    /// hold, whatever file and environment say, except for a `get_timeout` of five seconds.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the queue of calls that name none, and whose task names none.
    ///
    /// # Panics
    ///
    /// If the name is empty.
    #[track_caller]
    pub fn default_queue(self, name: &str) -> Self {
        self.set("default_queue", name)
    }

    /// Sets how long results are kept, by the test's clock; zero keeps them for ever.
    ///
    /// # Panics
    ///
    /// If the text is not a length of time.
    #[track_caller]
    pub fn result_ttl(self, ttl: impl IntoDuration) -> Self {
        self.set_duration("result_ttl", ttl)
    }

    /// Sets how long `Handle::get` waits. Default five seconds.
    ///
    /// # Panics
    ///
    /// If the text is not a length of time.
    #[track_caller]
    pub fn get_timeout(self, timeout: impl IntoDuration) -> Self {
        self.set_duration("get_timeout", timeout)
    }

    /// Sets the time for which calls of unknown tasks are put back, before they go to the dead set.
    ///
    /// # Panics
    ///
    /// If the text is not a length of time.
    #[track_caller]
    pub fn unknown_task_grace(self, grace: impl IntoDuration) -> Self {
        self.set_duration("unknown_task_grace", grace)
    }

    /// Sets one setting by its name in `taskq.toml`, from text.
    ///
    /// # Panics
    ///
    /// If there is no such setting, or it does not take that value.
    #[doc(hidden)]
    #[track_caller]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.settings.set(key, value, Origin::Code) {
            panic!("{error}");
        }
        self
    }

    #[track_caller]
    fn set_duration(self, key: &str, value: impl IntoDuration) -> Self {
        match value.into_duration() {
            Ok(value) => self.set(key, &duration_text(value)),
            Err(mistake) => panic!("`{key}`: {mistake}"),
        }
    }

    /// Sets the clock's first time. Default: the time when the queue is started.
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.now = Some(now);
        self
    }

    /// Sets the number of runs after which a drain panics. Default 10,000.
    pub fn runs_max(mut self, runs_max: usize) -> Self {
        self.runs_max = runs_max;
        self
    }

    /// Starts a queue that receives all calls without a client that are made on this tokio runtime, until it is
    /// dropped.
    ///
    /// # Panics
    ///
    /// If there is no runtime here, if there is a queue on it already, or if two linked tasks have equal names.
    #[track_caller]
    pub fn start(self) -> TestQueue {
        let queue = self.detached();
        match current::sit(&Arc::downgrade(&queue.0)) {
            Ok(seat) => {
                queue.0.seat.get_or_init(|| seat);
                queue
            }
            Err(Refused::NoRuntime) => panic!(
                "a testing queue is started on a tokio runtime, for the calls that are made there, and here is none; start it \
                 inside `#[tokio::test]`, or make it with `testing::builder().detached()` and run the test in its `scope`"
            ),
            Err(Refused::Taken(earlier)) => panic!(
                "this runtime has had a testing queue since {}, and calls cannot know which of the two is meant; drop that one \
                 first, or make both with `testing::builder().detached()` and use `TestQueue::scope`",
                earlier.begun_at
            ),
        }
    }

    /// Makes a queue that gets only calls made inside its [`scope`](TestQueue::scope), or sent with its
    /// [`client`](TestQueue::client). For tests that share a runtime.
    ///
    /// # Panics
    ///
    /// If two linked tasks have equal names.
    #[track_caller]
    pub fn detached(self) -> TestQueue {
        let Self { settings, mut state, registry, now, runs_max } = self;
        let begun_at = Location::caller();
        let registry = registry.unwrap_or_else(|| match Registry::collect() {
            Ok(registry) => registry,
            Err(error) => panic!("{error}"),
        });
        // Truncated to microseconds, the precision of times in messages.
        let clock = Clock::manual(now.unwrap_or_else(Utc::now).trunc_subsecs(6));
        let broker = MemoryBroker::private(BrokerOptions { clock: clock.clone(), ..BrokerOptions::default() });
        let options = BackendOptions { result_ttl: settings.result_ttl, ..BackendOptions::default() };
        let kept = Arc::new(MemoryBackend::by_clock(&options, clock.clone()));
        let backend = Backend { results: Arc::clone(&kept) as SharedResults, kv: kept };
        let client = Client::over(settings, Arc::clone(&broker) as _, Some(backend), clock);
        state.insert(TypeId::of::<Client>(), Arc::new(client.clone()));
        // A drain runs one task at a time.
        state.insert(TypeId::of::<FreeSlots>(), Arc::new(FreeSlots::new(|| false)));
        current::listen();
        attempt::note_panics();
        let state = Arc::new(state);
        TestQueue(Arc::new(QueueParts { client, broker, registry, state, runs_max, begun_at, seat: OnceLock::new() }))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("now", &self.now).field("runs_max", &self.runs_max).finish_non_exhaustive()
    }
}
