#![allow(unused)]

use taskq::task;

#[task]
async fn text(name: &str) {}

#[task]
async fn list(numbers: &[i64]) {}

#[task]
async fn changed(numbers: &mut Vec<i64>) {}

#[task]
async fn within(name: Option<&str>) {}

#[task]
async fn path(path: &std::path::Path) {}

fn main() {}
