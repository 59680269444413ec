//! RabbitMQ, over AMQP 0-9-1.
//!
//! Two connections: one publishes (and may be blocked by the broker's alarms), the other, opened when it is first
//! needed, consumes (and must not be). Each is a [`link`], which opens a new [`session`] whenever one is lost, without
//! ever giving up; whoever works over a session notices its loss and begins again on the next one:
//! the one task that sees to publications ([`publishing`]), and a supervisor per consumption ([`consume`]). What has to exist in the
//! broker is described by [`topology`] and declared again by whoever needs it.
//!
//! lapin can reconnect by itself, and that stays switched off. It gives up for good after some attempts and then
//! leaves consumers waiting for ever; it brings back connections but not single channels, so that a consumer whose
//! channel the broker closed falls silent; it stops without a word where a queue was deleted; and it sends nothing
//! again. Watching for all of that costs as much as doing it, and doing it leaves one mechanism instead of two.
//!
//! Everything here lives on the I/O thread, except for what is done where the caller is because the way to another
//! thread would cost more: putting messages on the wire ([`publish`]), reading [`deliveries`], and gathering
//! settlements ([`settle`]).
//!
//! ```text
//! publish() --> publish --> publishing --> flight (who may be answered?)            link <-- session <-- lapin
//! stream    <-- deliveries <-- lapin's consumers <-- consume (supervisor)          |
//! ack()     --> settle --> ack (what to send?) --> lapin                           address (whose fault is it?)
//! ```
//!
//! Decisions are kept apart from I/O and tested by themselves: [`ack`], [`flight`], [`delay`], [`convert`], [`shelf`].

mod ack;
mod address;
mod arguments;
#[doc(hidden)]
pub mod bare;
mod broker;
mod browse;
mod command;
mod consume;
mod control;
mod convert;
mod death;
mod delay;
mod deliveries;
mod delivery_renewal;
mod flight;
mod greeting;
mod link;
mod publish;
mod publishing;
mod session;
mod settle;
mod shelf;
mod topology;
mod value;

pub use broker::AmqpBroker;
