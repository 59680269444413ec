//! Real programs: workers, beats and the command line, which are started, signalled, killed and counted.

mod answers;
mod beat;
mod cli;
mod crash;
mod environment;
mod file_access;
mod logs;
mod passwords;
mod process;
mod revoking;
mod schedule;
mod sqlite_faults;
mod sqlite_processes;
mod supervision;
mod supervision_losses;
mod supervision_outside;
mod torture;
