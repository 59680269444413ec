#![allow(unused)]

use taskq::task;

#[task(time_limit = "30")]
async fn without_unit() {}

#[task(time_limit = "soon")]
async fn word() {}

#[task(expires = "1M")]
async fn month() {}

#[task(time_limit = "0s")]
async fn zero() {}

#[task(backoff = "5m..1s")]
async fn backwards() {}

#[task(backoff = "1s..")]
async fn half() {}

fn main() {}
