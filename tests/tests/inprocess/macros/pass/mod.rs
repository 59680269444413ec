//! What compiles, and what comes of it.

mod attempts;
mod inference;
mod modules;
mod names;
mod options;
mod results;
