#![allow(unused)]

use taskq::task;

#[task(name = "")]
async fn nameless() {}

#[task(name = "send mail")]
async fn spaced() {}

#[task(queue = "amq.mail")]
async fn reserved() {}

#[task(queue = "taskq.dead")]
async fn own() {}

#[task(queue = "mail.quarantine")]
async fn quarantined() {}

#[task(crate = "not a crate")]
async fn nowhere() {}

fn main() {}
