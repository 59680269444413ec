//! Remote control: requests to workers, their answers, who is meant, and events. Pure data, in the terms of Celery's
//! protocol.
//!
//! A request goes to all workers that listen at the moment; each decides whether it is meant, and answers to the
//! address that the request names, if it names one.

mod authority;
mod event;
mod node_pattern;
mod request;
mod revocation;

pub use authority::{Authority, RemoteControl, Ruling};
pub use event::Event;
pub use request::{Destination, NodeReply, ReplyAddress, Request};
pub use revocation::{Revocation, Revoked};
