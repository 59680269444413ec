#![allow(unused)]

use taskq::task;

#[task]
async unsafe fn dangerous() {}

#[task]
extern "C" fn foreign() {}

#[task]
const fn constant() -> i64 {
    3
}

fn main() {}
