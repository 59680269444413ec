//! Results and facts in Redis (or a server that speaks like it, such as Valkey).
//!
//! Two connections to a server: a multiplexed one for commands ([`connection`]), and one for pub/sub that serves all
//! watchers ([`watch`]); the second is opened when the first watcher comes. Both live on the I/O runtime, ping what
//! is silent, and come back by themselves, however long the outage. An operation that meets an outage waits for the
//! connection until its timeout is over, then fails.
//!
//! Keys and values of results are Celery's, so Python programs read them and write them. Whatever must be one
//! atomic step is one [script](scripts). Everything else of ours is under `taskq:`.
//!
//! A single server or a primary with replicas; sharded clusters are not known here, since one operation touches
//! keys of several shards.

mod backend;
mod connection;
mod documents;
mod keys;
mod kv;
mod refusal;
mod results;
mod scripts;
mod server;
mod watch;

pub use backend::RedisBackend;
