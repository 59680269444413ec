#![allow(unused)]

use taskq::{Context, task};

#[task(queu = "mail", retries = "many", time_limit = "30")]
async fn welcome(name: &str, (x, y): (i64, i64), ctx: &Context) -> &'static str {
    "hello"
}

fn main() {}
