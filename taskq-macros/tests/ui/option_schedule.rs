#![allow(unused)]

use taskq::task;

#[task(cron = "* * * *")]
async fn four_fields() {}

#[task(cron = "@daily")]
async fn nickname() {}

#[task(cron = "0 9 * * MON!")]
async fn stranger() {}

#[task(cron = "0 9 * * *", tz = "+02:00")]
async fn offset() {}

#[task(every = "30s", tz = "Europe/Berlin")]
async fn zone_without_cron() {}

#[task(cron = "0 9 * * *", every = "30s")]
async fn both() {}

#[task(every = "100ms")]
async fn too_often() {}

fn main() {}
