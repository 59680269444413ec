#![allow(unused)]

use taskq::task;

#[task(soft_time_limit = "30s", time_limit = "20s")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {}
