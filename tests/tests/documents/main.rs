//! README, guides, examples and manifests: everything that they show is run and compared.

mod blocks;
mod catalogue;
mod configuration;
mod deploying;
mod examples;
mod outside;
mod packages;
mod quickstart;
