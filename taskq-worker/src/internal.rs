//! Items for the other crates of taskq. They make no promise of compatibility: any release may change or remove them.

/// The parts of the command line from which the program `taskq` is made.
#[cfg(feature = "cli")]
pub mod cli {
    pub use crate::cli::{
        CAN_SUPERVISE, Exit, ExtraCommands, Failure, Output, Session, Setup, WorkerCommand, check_commands, main_of,
        task_runtime, understands_of, values,
    };
}
