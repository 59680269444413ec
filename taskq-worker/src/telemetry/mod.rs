//! The log of a process, and whatever else it writes to stderr.
//!
//! The log goes to stderr; stdout belongs to what a command answers. A program that has installed a subscriber of its
//! own keeps it.
//!
//! Every line is one line of its format, whatever is in the values: [`text_line`] escapes what could forge a line or
//! control a terminal, [`json_line`] writes one document a line, and both cut what is too long ([`bounds`]). Panics are
//! lines of the log like others ([`panics`]). Lines of which there are very many are counted instead of written
//! ([`flood`] decides, [`flood_guard`] acts).

mod bounds;
mod flood;
mod flood_guard;
mod json_line;
mod panics;
mod stderr;
mod subscriber;
#[cfg(test)]
mod tests;
mod text_line;

pub(crate) use flood_guard::sum_up_all;
pub(crate) use stderr::{Format, aside, complain, has_terminal, line_of_other};
pub(crate) use subscriber::{Level, init};
