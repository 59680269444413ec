//! Remote control from the worker's side: what is asked of it, and what it answers.
//!
//! A worker is one [`Node`], whatever its number of processes; [`serve`] listens for it and answers as Celery's workers
//! do ([`answers`], pure). What is refused is refused by the settings ([`taskq::remote::Authority`]).

mod answers;
mod events;
mod node;
mod serve;
mod state;

pub(crate) use events::{EventBuffer, signed, tell_events};
pub(crate) use node::{Node, NodeAnswer, NodeQuestion};
pub(crate) use serve::{serve, tell_offline};
pub(crate) use state::{ProcessState, RunState};
