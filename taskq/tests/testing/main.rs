//! `taskq::testing`, as the tests of a user's program see it.

mod assertions;
mod clock;
mod drain;
mod isolation;
