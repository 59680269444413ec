#![allow(unused)]

use taskq::task;

#[task(queu = "mail")]
async fn near(x: i64) {}

#[task(max_retries = 5)]
async fn by_another_name(x: i64) {}

#[task(countdown = "10s")]
async fn of_a_call(x: i64) {}

#[task(bananas)]
async fn strange(x: i64) {}

fn main() {}
