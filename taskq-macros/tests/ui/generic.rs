#![allow(unused)]

use taskq::task;

#[task]
async fn of_any_type<T: serde::Serialize>(x: T) {}

#[task]
async fn borrowing<'a>(x: &'a str) {}

#[task]
async fn of_any_length<const N: usize>(x: [u8; N]) {}

#[task]
async fn with_where(x: String)
where
    String: Clone,
{
}

fn main() {}
