#![allow(unused)]

use taskq::task;

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
async fn greet(name: String, title: Option<String>) {}

fn main() {
    let _ = add("two", 3);
    let _ = add(2);
    let _ = greet(7, None);
    let _ = greet("Ada", 7);
}
