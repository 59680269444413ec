//! The shop as a program: a worker and its command line.

use std::process::ExitCode;

use taskq_tests::tasks;
use taskq_worker::WorkerBuilder;

fn main() -> ExitCode {
    // For the test of a program whose processes for tasks never come up.
    let is_child = || std::env::args_os().any(|argument| argument.to_string_lossy().starts_with("--supervised-by"));
    if let Ok(words) = std::env::var("SHOP_DIES_AT_START")
        && is_child()
    {
        eprintln!("{words}");
        std::process::abort();
    }
    if let Ok(words) = std::env::var("SHOP_PANICS_AT_START")
        && is_child()
    {
        panic!("{words}");
    }
    if let Ok(words) = std::env::var("SHOP_HOOKS_PANICS") {
        std::panic::set_hook(Box::new(move |_| eprintln!("{words}")));
    }
    // The points of `FAILPOINTS` are armed for as long as the scenario lives, which is until the end.
    let _armed = std::env::var_os("FAILPOINTS").map(|_| fail::FailScenario::setup());
    taskq_worker::main_with(setup)
}

/// The state that the shop's tasks share. Fails with the text of `SHOP_SETUP_FAILS`, if it is set.
async fn setup(worker: WorkerBuilder) -> Result<WorkerBuilder, String> {
    match std::env::var("SHOP_SETUP_FAILS") {
        Ok(why) => Err(why),
        Err(_) => Ok(worker.state(tasks::Stock(std::process::id()))),
    }
}
