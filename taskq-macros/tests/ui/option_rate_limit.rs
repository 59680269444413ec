#![allow(unused)]

use taskq::task;

#[task(queue = "bank", rate_limit = "100/s")]
async fn charge() {}

#[task(rate = "10/m")]
async fn under_another_name() {}

#[task(name = "proj.add", rate_limit = "100/s")]
async fn elsewhere(x: i64) -> i64;

fn main() {}
