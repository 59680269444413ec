#![allow(unused)]

use taskq::{Context, task};

#[task]
async fn without_name(x: i64, y: i64) -> i64;

#[task(name = "proj.add")]
async fn with_context(ctx: &Context, x: i64) -> i64;

#[task(name = "proj.add", retries = 3, cron = "0 9 * * *")]
async fn with_policy(x: i64) -> i64;

fn main() {}
