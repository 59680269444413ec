#![allow(unused)]

use taskq::task;

#[task(ack = "sometimes")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() {}
