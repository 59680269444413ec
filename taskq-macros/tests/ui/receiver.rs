#![allow(unused)]

use taskq::task;

#[task]
async fn add(&self, y: i64) -> i64 {
    y
}

fn main() {}
