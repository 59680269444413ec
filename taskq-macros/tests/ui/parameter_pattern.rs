#![allow(unused)]

use taskq::task;

#[task]
async fn pair((x, y): (i64, i64)) {}

#[task]
async fn nameless(_: i64) {}

#[task]
async fn borrowed(ref x: i64) {}

fn main() {}
