//! What every test of processes needs: an app to start, servers of its own, and ways to wait for facts.
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

mod app;
mod audit;
mod bench;
mod document;
mod embedded;
mod example;
mod folder;
mod group;
mod health;
mod ledger;
mod moved_clock;
mod own;
mod process;
mod redis;
mod servers;
mod shell;
mod stage;
mod wait;
mod way;
mod yard;

pub use app::{App, Finished};
pub use audit::{Audit, Expected, Fault};
pub use bench::Bench;
pub use document::{Block, Step, assert_shown, repository};
pub use embedded::{Embedded, Notes};
pub use example::{example, on_terminal, quickstart, taskq};
pub use folder::Folder;
pub use group::{Group, build, is_gone, signal};
pub use health::Health;
pub use ledger::{Entry, Ledger};
pub use moved_clock::MovedClock;
pub use own::{OwnServers, Server};
pub use process::{Process, children_of};
pub use redis::{OwnRedis, free_port};
pub use servers::{Count, Servers, Vhost};
pub use shell::commands;
pub use stage::{Stage, missed, moment};
pub use wait::{BOUND, now_ms, unique, wait_until, wait_within};
pub use way::Way;
pub use yard::Yard;
