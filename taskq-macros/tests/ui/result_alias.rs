#![allow(unused)]

use taskq::task;

type Answer = Result<i64, String>;

#[task]
async fn ask() -> Answer {
    Ok(42)
}

fn main() {}
