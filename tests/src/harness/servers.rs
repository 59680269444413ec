//! The servers that tests may use: a broker and a Redis.

use std::collections::BTreeMap;
use std::path::PathBuf;

use taskq::Client;

use super::rabbit_control::RabbitControl;
use super::{Count, unique};

/// The servers of `scripts/services`, or any others that the environment names.
#[derive(Debug, Clone)]
pub struct Servers {
    /// `amqp://…`, from `TASKQ_TEST_AMQP_URL`.
    pub amqp: String,
    /// `redis://…`, from `TASKQ_TEST_REDIS_URL`.
    pub redis: String,
}

impl Servers {
    /// The servers that the environment names. `None`, with a line that says so, where it names none: the test is
    /// then to return at once.
    ///
    /// # Panics
    ///
    /// If it names none and `TASKQ_TEST_REQUIRE_SERVERS=1`, so that nothing is skipped where everything must run.
    pub fn from_env() -> Option<Self> {
        let servers = variable("TASKQ_TEST_AMQP_URL").zip(variable("TASKQ_TEST_REDIS_URL"));
        if servers.is_none() {
            skip("no servers: scripts/services up && eval \"$(scripts/services env)\"");
        }
        servers.map(|(amqp, redis)| Self { amqp, redis })
    }

    /// A client of them, with these settings.
    ///
    /// # Panics
    ///
    /// If the servers cannot be reached, or a setting is none.
    pub async fn client_with(&self, settings: &[(&'static str, &str)]) -> Client {
        let mut builder = Client::builder().broker(&self.amqp).results(&self.redis);
        for (key, value) in settings {
            builder = builder.set(key, *value);
        }
        builder.build().await.expect("the servers are up")
    }

    /// The broker's URL with another user, password and host part replaced by `change`, which is given
    /// `user:password@host:port` and the virtual host.
    ///
    /// # Panics
    ///
    /// If the URL is not of the form `amqp://user:password@host:port/vhost`.
    pub fn amqp_with(&self, change: impl FnOnce(&str, &str) -> (String, String)) -> String {
        let rest = self.amqp.strip_prefix("amqp://").expect("the test broker's URL begins with amqp://");
        let (authority, vhost) = rest.rsplit_once('/').expect("the test broker's URL names a virtual host");
        let (authority, vhost) = change(authority, vhost);
        format!("amqp://{authority}/{vhost}")
    }
}

/// A virtual host of one test's own, with its own dead set and its own queues. Deleted when dropped.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    folder: PathBuf,
    /// The servers, with the broker's URL naming this virtual host.
    pub servers: Servers,
}

impl Vhost {
    /// Makes one. `None`, with a line that says so, where `TASKQ_TEST_SERVICES_DIR` does not name a folder of
    /// `scripts/services`, which alone can make one.
    ///
    /// # Panics
    ///
    /// As [`Servers::from_env`], and if the broker does not make it.
    pub fn create(servers: &Servers) -> Option<Self> {
        let Some(folder) = variable("TASKQ_TEST_SERVICES_DIR").map(PathBuf::from) else {
            skip("no TASKQ_TEST_SERVICES_DIR: a virtual host needs servers of scripts/services");
            return None;
        };
        let name = unique("vhost");
        let own = Servers {
            amqp: servers.amqp_with(|authority, _| (authority.to_owned(), name.clone())),
            redis: servers.redis.clone(),
        };
        let user = user_of(&servers.amqp);
        RabbitControl::ask(&folder, &format!("add {name} {user}")).unwrap_or_else(|reason| panic!("{reason}"));
        Some(Self { name, folder, servers: own })
    }

    /// The servers as a user with these rights sees them: patterns of names to configure, to write and to read.
    ///
    /// # Panics
    ///
    /// If the broker does not grant them.
    pub fn permit(&self, user: &str, rights: [&str; 3]) -> Servers {
        let user = format!("{user}-{}", self.name);
        let [configure, write, read] = rights;
        RabbitControl::ask(&self.folder, &format!("permit {} {user} {configure} {write} {read}", self.name))
            .unwrap_or_else(|reason| panic!("{reason}"));
        let amqp = self.servers.amqp_with(|authority, vhost| {
            let (_, address) = authority.rsplit_once('@').expect("the test broker's URL names a user");
            let password: String = user.chars().rev().collect();
            (format!("{user}:{password}@{address}"), vhost.to_owned())
        });
        Servers { amqp, redis: self.servers.redis.clone() }
    }

    /// Gives the queues whose names fit `pattern` this policy, as `rabbitmqctl set_policy NAME PATTERN DEFINITION`.
    ///
    /// # Panics
    ///
    /// If the broker does not take it.
    pub fn set_policy(&self, name: &str, pattern: &str, definition: &str) {
        RabbitControl::ask(&self.folder, &format!("policy {} {name} {pattern} {definition}", self.name))
            .unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// The names of its queues, with how many messages of each are ready, and how many are with a consumer and not
    /// acknowledged. Of quorum queues both figures may be some seconds old.
    ///
    /// # Panics
    ///
    /// If the broker does not answer.
    pub fn queues(&self) -> BTreeMap<String, Count> {
        RabbitControl::queues(&self.folder, &self.name)
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        // A virtual host that stays behind costs memory until the servers go down; the test's verdict stands.
        if let Err(reason) = RabbitControl::ask(&self.folder, &format!("delete {}", self.name)) {
            eprintln!("the virtual host {} stays behind: {reason}", self.name);
        }
    }
}

fn user_of(url: &str) -> String {
    let authority = url.trim_start_matches("amqp://").split('@').next().unwrap_or_default();
    authority.split(':').next().unwrap_or_default().to_owned()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn skip(why: &str) {
    assert!(variable("TASKQ_TEST_REQUIRE_SERVERS").as_deref() != Some("1"), "{why}");
    eprintln!("skipped: {why}");
}
