#![allow(unused)]

use taskq::task;

struct Order {
    id: u64,
}

#[task]
async fn ship(order: Order) -> u64 {
    order.id
}

fn main() {}
