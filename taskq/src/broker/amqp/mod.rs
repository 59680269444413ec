//! The adapter for RabbitMQ, over AMQP 0-9-1.
//!
//! There are two connections: one publishes, and may be blocked by the broker's alarms; the other, opened when it is
//! first needed, consumes, and must not be blocked. Each is a [`link`], which opens a new [`session`] whenever one is
//! lost, without ever giving up. The tasks that use a session notice its loss and start again on the next one: the
//! [`publish_loop`] of a client, and one [`consumer`] per consumption. A session whose node is of no use is given up
//! for another node: the publish loop notices that nothing is confirmed, and the [`vigil`] that nothing is handed
//! out. Everything that has to exist in the broker is described by [`topology`], and each task declares again what it
//! needs, or uses what it may not declare ([`rights`]).
//!
//! lapin's own recovery stays off. It gives up for good after some attempts and then leaves consumers waiting without
//! end. It recovers connections but not single channels, so a consumer whose channel the broker closed falls silent. It
//! stops silently when a queue was deleted, and it resends nothing. Watching for all of that costs as much as doing it,
//! and doing it leaves one mechanism instead of two.
//!
//! Everything here runs on the I/O thread, except for work that is done on the caller's thread because passing it to
//! another would cost more: sending messages ([`outbox`]), reading [`deliveries`], and collecting settlements
//! ([`settle`]).
//!
//! ```text
//! publish() --> publish --> outbox <-> publish_loop          link <-- session <-- lapin
//!                             '--> unconfirmed (what to answer?)  '-- places (where?)
//! stream    <-- deliveries <-- lapin's consumers <-- consumer         '-- address (where is the fault?)
//! ack()     --> settle --> ack_planner (what to send?) --> lapin
//! ```
//!
//! lapin's parser never sees what it would break over: its sockets are [`transport`]'s, behind a [`screen`].
//!
//! Decisions are separate from I/O and tested on their own: [`ack_planner`], [`unconfirmed`], [`delay_ladder`],
//! [`convert`], [`screen`], [`staleness`], [`suspicion`], [`consumer_timeout`], [`arguments`].

mod ack_planner;
mod address;
mod arguments;
pub(crate) mod bare;
mod broadcast;
mod broker;
mod browse;
mod command;
mod consumer;
mod consumer_timeout;
mod control;
mod convert;
mod death;
mod delay_ladder;
mod deliveries;
mod delivery_renewal;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod greeting;
mod link;
mod outbox;
mod places;
mod publish;
mod publish_loop;
mod reattachment;
mod rights;
mod screen;
mod session;
mod settle;
mod staleness;
mod suspicion;
mod topology;
mod transport;
mod unconfirmed;
mod value;
mod vigil;

pub use broker::AmqpBroker;
