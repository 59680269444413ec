//! The house rules as tests. They read the sources of the workspace and compile none of them.
//!
//! * [`rooms`]: rooms import only from rooms below them, and each outside library has one home, as `ARCHITECTURE.md`
//!   says
//! * [`engine`]: the layers inside the worker's engine, and the files that may name all of its shared state
//! * [`circles`]: no files import one another in a circle, but for a module with its own children, and for twins
//! * [`ports`]: a port has no method that only some of its adapters need
//! * [`tidiness`]: locks are private to their file; a crate has one type of a name
//! * [`words`]: doc comments stand alone, and some words are not used at all
//!
//! Beneath them, [`source`] takes a source apart and [`tree`] follows a path to the file that defines its target.
//!
//! Each test names the file and the rule that it breaks. `cargo test -p taskq-tests --test architecture
//! circle_in_taskq_beat` looks at one crate.

mod circles;
mod engine;
mod ports;
mod rooms;
mod source;
mod tidiness;
mod tree;
mod words;
