//! Frames from the broker: what passes the screen in front of lapin's parser can be parsed, and is a message.
//!
//! Input: the size of the pieces in which bytes arrive (one byte, 0 is 1); whether the rest is a stream of frames (an
//! even byte) or the flags and properties of one content header (an odd one); the rest.

#![no_main]

use libfuzzer_sys::fuzz_target;
use taskq::internal::codec;
use taskq::internal::fuzzing::amqp;

fuzz_target!(|input: &[u8]| {
    let [piece, kind, rest @ ..] = input else { return };
    let piece = usize::from(*piece).max(1);
    if kind % 2 == 0 {
        let passed = amqp::screened(rest, piece);
        assert_eq!(passed.is_ok(), amqp::screened(rest, 1 << 12).is_ok());
        if let Ok(passed) = passed {
            assert_eq!(passed, amqp::screened(rest, 1 << 12).expect("it passed in other pieces"));
        }
        return;
    }
    let message = amqp::received(rest, piece);
    if let Err(error) = codec::decode(&message) {
        assert!(error.to_string().len() > 10);
    }
    // What was received can be sent on, and arrives as it was.
    if let Some(second) = amqp::there_and_back(&message) {
        assert_eq!(amqp::there_and_back(&second), Some(second));
    }
});
