#![allow(unused)]

use taskq::task;

struct MailError;

#[task]
async fn welcome(user_id: u64) -> Result<(), MailError> {
    Err(MailError)
}

fn main() {}
