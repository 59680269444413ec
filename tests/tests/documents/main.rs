//! What README, guides, examples and manifests say, run and compared.

mod blocks;
mod catalogue;
mod configuration;
mod deploying;
mod examples;
mod outside;
mod packages;
mod quickstart;
