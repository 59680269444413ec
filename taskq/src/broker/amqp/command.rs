//! The request for a consumption, and the commands that steer it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

/// The queues to consume from, and the limits of the consumption.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) queues: Vec<Arc<str>>,
    pub(super) prefetch: u16,
    /// The queue to which messages are given back, if the consumed queue holds copies.
    pub(super) origin: Option<Arc<str>>,
    /// The time within which the broker requires settlements.
    pub(super) settle_within: Option<Duration>,
}

/// A command to the consumer, the task behind a consumption.
pub(super) enum Command {
    /// A consumer has ended.
    Vacant,
    /// The reader polls again for a queue whose consumer is suspended.
    Wanted,
    /// The reader is busy: what it has not read may go to others.
    GiveBackUnread,
    /// The reader will not read for long.
    SuspendFetching(oneshot::Sender<()>),
    SetPrefetch(u16),
    /// Like `SetPrefetch`, but unsettled deliveries count against the new limit.
    CapOutstanding(u16),
    Stop,
    Close(oneshot::Sender<()>),
}
