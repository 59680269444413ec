//! What compiles, and what comes of it.

mod attempts;
mod inference;
mod names;
mod options;
mod results;
