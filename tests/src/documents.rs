//! The documents of the repository: every Rust block in them is compiled, and run where it can be. The test `documents`
//! looks after the other blocks, and after this list.

#[doc = include_str!("../../README.md")]
pub struct Readme;

#[doc = include_str!("../../ARCHITECTURE.md")]
pub struct Architecture;

#[doc = include_str!("../../CONTRIBUTING.md")]
pub struct Contributing;

#[doc = include_str!("../../SECURITY.md")]
pub struct Security;

#[doc = include_str!("../../CHANGELOG.md")]
pub struct Changelog;

#[doc = include_str!("../../docs/clusters.md")]
pub struct Clusters;

#[doc = include_str!("../../docs/concepts.md")]
pub struct Concepts;

#[doc = include_str!("../../docs/configuration.md")]
pub struct Configuration;

#[doc = include_str!("../../docs/deploying.md")]
pub struct Deploying;

#[doc = include_str!("../../docs/security.md")]
pub struct SecurityGuide;

#[doc = include_str!("../../docs/remote-control.md")]
pub struct RemoteControlGuide;

#[doc = include_str!("../../docs/deploying-one-machine.md")]
pub struct DeployingOneMachine;

#[doc = include_str!("../../docs/errors-and-retries.md")]
pub struct ErrorsAndRetries;

#[doc = include_str!("../../docs/idempotency.md")]
pub struct Idempotency;

#[doc = include_str!("../../docs/scheduling.md")]
pub struct Scheduling;

#[doc = include_str!("../../docs/testing.md")]
pub struct Testing;

#[doc = include_str!("../../docs/values.md")]
pub struct Values;

#[doc = include_str!("../../docs/guarantees.md")]
pub struct Guarantees;
