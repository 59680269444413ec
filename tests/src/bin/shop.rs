//! The shop as a program: a worker and its command line.

use std::process::ExitCode;

use taskq_tests as _;

fn main() -> ExitCode {
    // The points of `FAILPOINTS` are armed for as long as the scenario lives, which is until the end.
    let _armed = std::env::var_os("FAILPOINTS").map(|_| fail::FailScenario::setup());
    taskq_worker::main()
}
