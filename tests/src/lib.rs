//! The shop: a crate of [`tasks`] that the tests of processes run, and the [`harness`] that they run them with.
//!
//! The program `shop` is its worker and its command line.

#[cfg(doctest)]
mod documents;
pub mod harness;
pub mod tasks;
