//! The promises of every broker adapter, one function per promise.
//!
//! Each function makes queues of its own, of the kind it is given, and waits for facts: the length of a queue may
//! become known late, so no reading of it is final. A broken promise is a panic that names it.

mod consuming;
mod looking;
mod publishing;
mod tools;
mod waiting;

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use self::consuming::*;
pub use self::looking::*;
pub use self::publishing::*;
pub use self::waiting::*;
use super::keep;
use crate::broker::{Broker, QueueKind};

/// The check of one promise: takes a broker, and the kind of queue to check with.
pub type BrokerPromise = fn(Arc<dyn Broker>, QueueKind) -> BoxFuture<'static, ()>;

/// Returns the checks of all promises, by name.
pub fn promises() -> Vec<(&'static str, BrokerPromise)> {
    macro_rules! list {
        ($($name:ident),* $(,)?) => {
            vec![$((stringify!($name), (|broker, kind| $name(broker, kind).boxed()) as BrokerPromise)),*]
        };
    }
    list![
        declaring_is_repeatable,
        bad_names_are_refused,
        confirmed_is_present,
        order_is_kept,
        messages_survive_unchanged,
        priorities_have_one_rule,
        unroutable_is_an_error,
        too_large_is_an_error,
        acknowledged_is_gone,
        requeued_comes_back,
        unsettled_comes_back_at_close,
        unsettled_comes_back_when_dropped,
        unread_goes_to_others,
        prefetch_is_a_bound,
        prefetch_can_be_changed,
        stop_gives_back_and_ends,
        stale_ackers_do_nothing,
        several_queues_at_once,
        a_queue_that_does_not_exist_is_an_error,
        two_consumers_share,
        a_thousand_pipelined,
        acknowledged_out_of_order,
        delays_are_never_early,
        a_long_delay_does_not_hold_a_short_one,
        delayed_messages_are_in_nobodys_hands,
        delays_find_their_queue,
        browsing_changes_nothing,
        browsing_can_take,
        purging_empties,
        stats_of_nothing_are_an_error,
        info_names_the_product,
    ]
}

/// Checks every promise, each on a broker that `make` returns, one after the other.
pub async fn run_all<F>(make: impl Fn() -> F, kind: QueueKind)
where
    F: Future<Output = Arc<dyn Broker>>,
{
    for (name, promise) in promises() {
        keep(name, promise(make().await, kind)).await;
    }
}
