#![allow(unused)]

use taskq::task;

#[task]
fn sum(numbers: ...) {}

fn main() {}
