#![allow(unused)]

use taskq::task;

#[task(queue = "mail", queue = "letters")]
async fn one() {}

#[task]
#[task(queue = "mail")]
async fn two() {}

fn main() {}
