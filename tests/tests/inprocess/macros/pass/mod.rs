//! Tasks that compile, and the results of their code.

mod attempts;
mod inference;
mod modules;
mod names;
mod options;
mod results;
