//! Periodic tasks: each description is read, or refused with mistakes; and an entry describes itself.
//!
//! Input: the description as JSON; or any other text, which is taken for an interval and for each other length of time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use taskq_beat::entry::{Entry, Origin};

fuzz_target!(|input: &str| {
    match serde_json::from_str::<Value>(input) {
        Ok(description) => check(&description),
        Err(_) => {
            check(&json!({ "task": "a", "every": input }));
            check(&json!({ "task": "a", "every": "1h", "start": input }));
            check(&json!({ "task": "a", "every": "1h", "expires": input }));
        }
    }
});

fn check(description: &Value) {
    let entry = match Entry::read("name", description, Origin::RunTime) {
        Ok(entry) => entry,
        Err(mistakes) => return assert!(mistakes.to_string().len() > 10),
    };
    assert!(!entry.schedule.describe().is_empty());
    let described = entry.describe();
    let again = Entry::read("name", &described, Origin::RunTime).expect("an entry can be read from its description");
    assert_eq!(again.describe(), described);
    assert_eq!(again.schedule, entry.schedule);
}
