#![allow(unused)]

use taskq::task;

#[task]
async fn add(#[allow(unused)] x: i64, y: i64) -> i64 {
    y
}

fn main() {}
