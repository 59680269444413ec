//! The tools of every test of processes: an app to start, servers of its own, and ways to wait for facts.
//!
//! ```no_run
//! use taskq_tests::harness::{App, Servers, unique};
//! # fn example() -> Option<()> {
//! let servers = Servers::from_env()?; // says so and skips the test where there are none
//! let queue = unique("orders");
//! let shop = App::new("target/debug/shop").servers(&servers).env("TASKQ_DEFAULT_QUEUE", &queue);
//! let mut worker = shop.start(&["worker", "-Q", &queue]);
//! worker.wait_until_ready();
//! assert_eq!(shop.run(&["call", "shop.add", "2", "3", "--wait=30s"]).exit, 0);
//! # Some(())
//! # }
//! ```
//!
//! Everything that was started dies with its value, so a failing test leaves nothing behind.

mod alone;
mod app;
mod audit;
mod beat_fixture;
mod certificates;
mod document;
mod embedded;
mod example;
mod executor;
mod faulty_proxy;
mod folder;
mod fork;
mod health;
mod ledger;
mod moved_clock;
mod private_redis;
mod private_servers;
mod process;
mod rabbit_control;
mod read_lock;
mod sentinels;
mod server_fixture;
mod servers;
mod shell;
mod sqlite_fixture;
mod starvation;
mod supervised_worker;
mod wait;

pub use alone::in_own_process;
pub use app::{App, Finished};
pub use audit::{Audit, Deaths, Expected};
pub use beat_fixture::{BeatFixture, missed, moment};
pub use certificates::Certificates;
pub use document::{Block, Step, assert_shown, repository};
pub use embedded::{Embedded, Notes};
pub use example::{example, on_terminal, quickstart, taskq};
pub use executor::block_on;
pub use faulty_proxy::FaultyProxy;
pub use folder::Folder;
pub use fork::in_fork;
pub use health::Health;
pub use ledger::{Entry, Ledger};
pub use moved_clock::MovedClock;
pub use private_redis::{PrivateRedis, free_port};
pub use private_servers::{PrivateServers, Server};
pub use process::{Process, children_of};
pub use rabbit_control::Count;
pub use read_lock::ReadLock;
pub use sentinels::Sentinels;
pub use server_fixture::ServerFixture;
pub use servers::{Servers, Vhost};
pub use shell::commands;
pub use sqlite_fixture::SqliteFixture;
pub use starvation::short_tasks_beside_a_long_one;
pub use supervised_worker::{SupervisedWorker, build, is_gone, signal};
pub use wait::{BOUND, now_ms, unique, wait_until, wait_within};
