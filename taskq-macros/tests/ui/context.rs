#![allow(unused)]

use taskq::{Context, task};

#[task]
async fn not_first(x: i64, ctx: &Context) {}

#[task]
async fn twice(ctx: &Context, again: Context) {}

#[task]
async fn changed(ctx: &mut Context) {}

#[task]
async fn for_ever(ctx: &'static Context) {}

fn main() {}
