#![allow(unused)]

use taskq::task;

struct Receipt(u64);

#[task]
async fn pay(amount: u64) -> Receipt {
    Receipt(amount)
}

#[task]
async fn pay_or_fail(amount: u64) -> Result<Receipt, std::io::Error> {
    Ok(Receipt(amount))
}

fn main() {}
