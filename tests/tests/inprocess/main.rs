//! Clients and workers inside of the test's own process, on memory and SQLite: no other program is started.

mod builds;
mod conformance_backend;
mod conformance_broker;
mod conformance_sqlite;
mod default_client;
mod engine;
mod fork;
mod macros;
mod revoking;
mod sqlite;
mod sqlite_speed;
mod starvation;
mod values;
mod waiting;
