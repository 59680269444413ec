//! `taskq`: the command line without tasks of its own.

fn main() -> std::process::ExitCode {
    taskq_cli::main()
}
