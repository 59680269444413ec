#![allow(unused)]

use taskq::task;

#[task(retry_if = "is_transient")]
async fn quoted() -> Result<(), std::io::Error> {
    Ok(())
}

fn is_transient(_: &std::io::Error) -> bool {
    true
}

#[task(retry_if = is_transient)]
async fn cannot_fail() -> i64 {
    3
}

#[task(retry_if = is_transient)]
async fn other_error() -> Result<(), String> {
    Ok(())
}

fn main() {}
