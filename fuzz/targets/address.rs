//! Addresses: each is read, or refused with a reason, and the password is in no text about it.
//!
//! Input: user, password and the rest of the address, on a line each.

#![no_main]

use libfuzzer_sys::fuzz_target;
use taskq::internal::fuzzing;

/// The part of each password that is looked for.
const PASSWORD: &str = "xyzzy";

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let (Some(user), Some(password), Some(rest)) = (lines.next(), lines.next(), lines.next()) else { return };
    if user.contains(PASSWORD) || rest.contains(PASSWORD) {
        return;
    }
    for scheme in ["amqp", "amqps", "redis", "rediss", "redis+unix", "http"] {
        shows_no_password(&format!("{scheme}://{user}:{password}{PASSWORD}{password}@{rest}"));
        if !password.contains('&') {
            shows_no_password(&format!("{scheme}://{rest}?password={password}{PASSWORD}"));
        }
    }
    // No address at all, and of a file, which has no password.
    for text in [input, rest, &format!("sqlite:{rest}"), &format!("amqp://{rest}"), &format!("redis://{rest}")] {
        fuzzing::shown(text);
        for result in fuzzing::addresses(text) {
            assert!(result.is_none_or(|error| error.len() > 10));
        }
    }
});

fn shows_no_password(url: &str) {
    let shown = fuzzing::shown(url);
    assert!(!shown.contains(PASSWORD), "{url:?} is shown as {shown:?}");
    for error in fuzzing::addresses(url).into_iter().flatten() {
        assert!(!error.contains(PASSWORD), "{url:?} is refused: {error}");
    }
}
