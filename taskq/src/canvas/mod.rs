//! Calls as values: a task, its arguments and its options. Pure; sending is the client's business.
//!
//! Workflows (chains, groups, chords) compose these values and have their place here.

mod arg;
mod call;
pub mod python;
#[doc(hidden)]
pub mod task_return;

pub use arg::{Arg, IntoArg, TaskArgument, TaskOutput};
pub use call::{ArgumentList, Call, CallOptions, CallParts, IntoDuration, Unique};
