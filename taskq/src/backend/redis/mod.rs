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
//! The server is a single one, or a primary with replicas. Sharded clusters are not supported, since one operation
//! touches keys of several shards.

mod backend;
mod connection;
mod dial;
mod documents;
mod keys;
mod kv;
mod refusal;
mod results;
mod scripts;
mod server;
mod watch;
mod writing;

pub use backend::RedisBackend;
#[cfg(fuzzing)]
pub(crate) use backend::fuzzing;
