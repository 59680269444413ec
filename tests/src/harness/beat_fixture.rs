//! Beats of a program, beside a worker, and what came of each slot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use chrono::DateTime;
use serde_json::Value;

use super::{App, Finished, Folder, Ledger, Process, Servers, unique};

/// A folder with a `taskq.toml` and, if nothing else is said there, the embedded file.
#[derive(Debug)]
pub struct BeatFixture {
    /// Where programs are started.
    pub folder: Folder,
    /// The program.
    pub app: App,
    /// The effects of its tasks.
    pub ledger: Ledger,
}

impl BeatFixture {
    /// Of this program. `settings` come first in the file, `entries` give each entry's name and keys. `LEDGER` stands
    /// for the ledger's path.
    pub fn new(program: impl AsRef<Path>, settings: &str, entries: &[(&str, &str)]) -> Self {
        let (folder, ledger) = (Folder::new("beat"), Ledger::new());
        let app = App::new(program).folder(&folder);
        let fixture = Self { folder, app, ledger };
        fixture.write(settings, entries);
        fixture
    }

    /// A fixture on the servers of the tests, with a database of Redis that no other test uses, since beats that share
    /// a store are one scheduler. `None`, with a line that says so, where there are no servers.
    ///
    /// # Panics
    ///
    /// If Redis does not answer.
    pub fn on_servers(program: impl AsRef<Path>, database: u8, entries: &[(&str, &str)]) -> Option<Self> {
        let servers = Servers::from_env()?;
        let redis = format!("{}/{database}", servers.redis.trim_end_matches("/0").trim_end_matches('/'));
        let mut connection = redis::Client::open(&*redis)
            .and_then(|client| client.get_connection())
            .expect("the Redis of the tests answers");
        redis::cmd("FLUSHDB").exec(&mut connection).expect("it can be emptied");
        let queue = unique("beat");
        let settings =
            format!("broker_url = \"{}\"\nresult_url = \"{redis}\"\ndefault_queue = \"{queue}\"", servers.amqp);
        Some(Self::new(program, &settings, entries))
    }

    /// Writes the file anew.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, settings: &str, entries: &[(&str, &str)]) {
        let mut text = format!("{settings}\n");
        for (name, keys) in entries {
            write!(text, "[schedule.{name}]\n{}\n", keys.replace("LEDGER", self.ledger.path())).expect("it is a text");
        }
        std::fs::write(self.folder.path().join("taskq.toml"), text).expect("the folder can be written");
    }

    /// A worker that is ready.
    pub fn worker(&self) -> Process {
        let mut worker = self.app.start(&["worker", "--unsupervised", "-c", "8"]);
        worker.wait_until_ready();
        worker
    }

    /// A beat of this name that is ready.
    pub fn beat(&self, name: &str) -> Process {
        Self::beat_of(&self.app, name)
    }

    /// A beat of this name that is ready, of a program that is started in another way.
    pub fn beat_of(app: &App, name: &str) -> Process {
        let mut beat = app.start(&["beat", "-n", name]);
        beat.wait_until_ready();
        beat
    }

    /// Runs `schedule`.
    pub fn schedule(&self, arguments: &[&str]) -> Finished {
        self.app.run(&[&["schedule"], arguments].concat())
    }

    /// All that is known of an entry.
    pub fn show(&self, entry: &str) -> Value {
        self.schedule(&["show", entry]).expect_exit(0).json()
    }

    /// The name of the beat that leads, if one does.
    ///
    /// # Panics
    ///
    /// If it has no name.
    pub fn leader(&self, entry: &str) -> Option<String> {
        let leader = self.show(entry)["leader"].clone();
        Some(leader["node"].as_str()?.split('@').next().expect("there is a first part").to_owned())
    }

    /// The history of an entry's slots.
    pub fn history(&self, entry: &str) -> Vec<Value> {
        self.schedule(&["history", entry]).expect_exit(0).json_lines()
    }

    /// When each effect of a slot of an entry was, in milliseconds, by the slot's time in seconds.
    pub fn effects(&self, entry: &str) -> BTreeMap<i64, Vec<u64>> {
        let mut effects: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for noted in self.ledger.entries() {
            if let Some(slot) = noted.id.strip_prefix(&format!("{entry}@")) {
                effects.entry(seconds(slot)).or_default().push(noted.at_ms);
            }
        }
        effects
    }
}

fn seconds(moment: &str) -> i64 {
    DateTime::parse_from_rfc3339(moment).unwrap_or_else(|error| panic!("{moment} is no slot: {error}")).timestamp()
}

/// A moment as JSON, in seconds.
///
/// # Panics
///
/// If it is none.
pub fn moment(value: &Value) -> i64 {
    seconds(value.as_str().expect("a moment is a text"))
}

/// The slots, a second apart, that history says were missed.
///
/// # Panics
///
/// If it does not say why.
pub fn missed(history: &[Value]) -> BTreeSet<i64> {
    let missed = history.iter().filter(|event| event["event"] == "missed");
    missed
        .flat_map(|event| {
            assert!(event["why"].is_string(), "it says why: {event}");
            moment(&event["first"])..=moment(&event["last"])
        })
        .collect()
}
