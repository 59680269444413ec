#![allow(unused)]

use taskq::task;

#[task]
struct Add {
    x: i64,
}

fn main() {}
