#![allow(unused)]

use taskq::task;

#[task(queue = mail)]
async fn without_quotes() {}

#[task(queue)]
async fn without_value() {}

#[task(queue("mail"))]
async fn in_brackets() {}

#[task("mail")]
async fn without_key() {}

#[task(retries = "5")]
async fn quoted_number() {}

#[task(retries = -1)]
async fn less_than_nothing() {}

#[task(priority = 300)]
async fn too_large() {}

#[task(time_limit = 30)]
async fn bare_number() {}

#[task(time_limit = 30s)]
async fn bare_time() {}

#[task(queue = "mail" retries = 5)]
async fn without_comma() {}

#[task(queue = , retries = 5)]
async fn nothing_there() {}

#[task(ignore_result = "yes")]
async fn quoted_flag() {}

fn main() {}
