//! Results and Kv values in Redis, or a compatible server such as Valkey.
//!
//! There are two connections to the server: a multiplexed one for commands ([`connection`]), and one for pub/sub that
//! serves all watchers ([`watch`]) and is opened for the first of them. Both live on the I/O runtime, ping when they
//! are idle, and reconnect by themselves after outages of any length. An operation during an outage waits for the
//! connection until its timeout is over, then fails.
//!
//! Keys and values of results are Celery's, so Python programs can read and write them. Everything that must be one
//! atomic step is one [script](scripts). All other keys have the prefix `taskq:`.
//!
//! The server is a single one, or a primary with replicas, which [Sentinels](sentinel) may name. When a replica takes
//! the place of the primary, what the process has written of late is [written again](journal). Sharded clusters are
//! refused, since one operation touches keys of several shards.

mod backend;
mod connection;
mod dial;
mod documents;
mod identity;
mod journal;
mod keeper;
mod keys;
mod kv;
mod refusal;
mod restore;
mod results;
mod route;
mod scripts;
mod sentinel;
mod server;
mod timing;
mod watch;
mod writing;

pub use backend::RedisBackend;
#[cfg(fuzzing)]
pub(crate) use backend::fuzzing;
