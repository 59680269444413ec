//! Assertions about enqueued calls, and the messages of their failures.

use super::enqueued::Expected;
use super::{Enqueued, TestQueue};
use crate::canvas::Call;

/// Asserts that a call like this one is enqueued in the testing queue of this test.
///
/// The task and the arguments are compared in their serialized form. The options (queue, countdown, eta, priority,
/// expiry, limits, headers, id) are compared only if the given call names them; see
/// [`TestQueue::find`](crate::testing::TestQueue::find).
///
/// # Panics
///
/// If there is none; the message lists the enqueued calls and the differences of the nearest. Also if there is no
/// testing queue here.
#[doc(hidden)]
#[macro_export]
macro_rules! __taskq_assert_enqueued {
    ($call:expr $(,)?) => {
        $crate::testing::check_enqueued(&$call, ::core::stringify!($call))
    };
}

/// Asserts that no call like this one is enqueued in the testing queue of this test. Compares as [`assert_enqueued`]
/// does.
///
/// # Panics
///
/// If there is one, and if there is no testing queue here.
///
/// [`assert_enqueued`]: crate::testing::assert_enqueued
#[doc(hidden)]
#[macro_export]
macro_rules! __taskq_assert_not_enqueued {
    ($call:expr $(,)?) => {
        $crate::testing::check_not_enqueued(&$call, ::core::stringify!($call))
    };
}

#[doc(hidden)]
#[track_caller]
pub fn check_enqueued<T>(call: &Call<T>, text: &str) {
    let (expected, enqueued) = look(call);
    let found = enqueued.iter().any(|there| expected.differences(there).is_empty());
    assert!(found, "{}", missing(text, &expected, &enqueued));
}

#[doc(hidden)]
#[track_caller]
pub fn check_not_enqueued<T>(call: &Call<T>, text: &str) {
    let (expected, enqueued) = look(call);
    if let Some(there) = enqueued.iter().find(|there| expected.differences(there).is_empty()) {
        panic!("enqueued, and should not be: {text}\nfound: {there}\n{}", list(&enqueued));
    }
}

#[track_caller]
fn look<T>(call: &Call<T>) -> (Expected, Vec<Enqueued>) {
    let Some(queue) = TestQueue::current() else {
        panic!("no testing queue belongs to this runtime; begin the test with `let queue = taskq::testing::start();`")
    };
    (Expected::of(call, queue.registry()), queue.enqueued())
}

/// Returns the text of an assertion that found no such call.
fn missing(text: &str, expected: &Expected, enqueued: &[Enqueued]) -> String {
    let with_differences = enqueued.iter().map(|there| (there, expected.differences(there)));
    let of_the_task = with_differences.filter(|(there, _)| expected.is_of_task(there));
    let nearest = match of_the_task.min_by_key(|(_, differences)| differences.len()) {
        Some((there, differences)) => {
            let lines: String = differences.iter().map(|difference| format!("\n    {difference}")).collect();
            format!("nearest: {there}{lines}\n")
        }
        None => String::new(),
    };
    format!("not enqueued: {text}\n{nearest}{}", list(enqueued))
}

fn list(enqueued: &[Enqueued]) -> String {
    let lines: String = enqueued.iter().map(|there| format!("\n    {there}")).collect();
    match enqueued.len() {
        0 => "nothing is enqueued".to_owned(),
        1 => format!("one call is enqueued:{lines}"),
        count => format!("{count} calls are enqueued:{lines}"),
    }
}
