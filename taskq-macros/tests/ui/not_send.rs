#![allow(unused)]

use std::rc::Rc;
use taskq::task;

async fn elsewhere() {}

#[task]
async fn count(x: i64) -> i64 {
    let shared = Rc::new(x);
    elsewhere().await;
    *shared
}

fn main() {}
