//! `taskq.toml`: each text is read, or refused; values are within their bounds, and no password is ever shown.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use taskq::broker::QueueSpec;
use taskq::internal::fuzzing;

/// A password. The texts that hold it are those of settings with passwords.
const PASSWORD: &str = "xyzzy";

fuzz_target!(|text: &str| {
    let settings = match fuzzing::settings(text) {
        Ok(settings) => settings,
        Err(error) => {
            let error = error.to_string();
            let is_given = text.contains("broker_url = \"amqp://u:xyzzy@") && text.matches(PASSWORD).count() == 1;
            return assert!(!is_given || !error.contains(PASSWORD), "{error}");
        }
    };
    assert!(settings.claim_lease >= Duration::from_secs(1) && settings.max_received_bytes <= 4 << 30);
    for queue in settings.queues.keys().chain(&settings.interop).chain([&settings.default_queue]) {
        QueueSpec::check_named(queue).expect("queues of settings can be used");
    }
    for queue in settings.queues.values() {
        assert!(queue.max_priority.is_none() || queue.kind != taskq::broker::QueueKind::Quorum);
    }
    for setting in settings.report() {
        assert!(!setting.value.chars().any(|letter| letter == '\n'), "{setting:?}");
        let is_url = setting.value.contains("://u:") && text.matches(PASSWORD).count() == 1;
        assert!(!is_url || !setting.value.contains(PASSWORD), "{setting:?}");
    }
});
