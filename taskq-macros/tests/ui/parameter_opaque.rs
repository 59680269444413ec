#![allow(unused)]

use taskq::task;

#[task]
async fn greet(name: impl Into<String>) {}

fn main() {}
