#![allow(unused)]

use taskq::task;

#[task]
async fn borrowed() -> &'static str {
    "hello"
}

#[task]
async fn endless() -> ! {
    loop {}
}

#[task]
fn by_hand() -> impl Future<Output = i64> {
    async { 3 }
}

#[task]
fn opaque() -> impl serde::Serialize {
    3
}

fn main() {}
