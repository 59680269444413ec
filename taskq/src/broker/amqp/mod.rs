//! RabbitMQ, over AMQP 0-9-1.
//!
//! Two connections: one publishes (and may be blocked by the broker's alarms), the other, opened when it is first
//! needed, consumes (and must not be). Each is a [`link`], which opens a new [`session`] whenever one is lost, without
//! ever giving up. The tasks that work over a session notice its loss and begin again on the next one: the
//! [`publish_loop`] of a client, and a [`consumer`] per consumption. What has to exist in the broker is described by
//! [`topology`] and declared again by each task that needs it.
//!
//! lapin can reconnect by itself, and that stays switched off. It gives up for good after some attempts and then
//! leaves consumers waiting for ever; it brings back connections but not single channels, so that a consumer whose
//! channel the broker closed falls silent; it stops without a word where a queue was deleted; and it sends nothing
//! again. Watching for all of that costs as much as doing it, and doing it leaves one mechanism instead of two.
//!
//! Everything here lives on the I/O thread, except for what is done where the caller is because the way to another
//! thread would cost more: sending messages ([`outbox`]), reading [`deliveries`], and gathering
//! settlements ([`settle`]).
//!
//! ```text
//! publish() --> publish --> outbox <-> publish_loop          link <-- session <-- lapin
//!                             '--> unconfirmed (what to answer?)  |
//! stream    <-- deliveries <-- lapin's consumers <-- consumer     |
//! ack()     --> settle --> ack_planner (what to send?) --> lapin  address (where is the fault?)
//! ```
//!
//! Decisions are kept apart from I/O and tested by themselves: [`ack_planner`], [`unconfirmed`], [`delay_ladder`],
//! [`convert`], [`staleness`].

mod ack_planner;
mod address;
mod arguments;
pub(crate) mod bare;
mod broker;
mod browse;
mod command;
mod consumer;
mod control;
mod convert;
mod death;
mod delay_ladder;
mod deliveries;
mod delivery_renewal;
mod greeting;
mod link;
mod outbox;
mod publish;
mod publish_loop;
mod session;
mod settle;
mod staleness;
mod topology;
mod unconfirmed;
mod value;

pub use broker::AmqpBroker;
