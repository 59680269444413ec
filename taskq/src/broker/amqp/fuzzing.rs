//! The part of this adapter that the fuzz targets reach.

use lapin::protocol::basic::parse_properties;

use super::address::Addresses;
use super::convert::{from_amqp, to_amqp};
use super::screen::Screen;
use crate::message::WireMessage;
use crate::tls::TlsOptions;

/// Screens `bytes` that arrive in pieces of this size, and returns what lapin would see.
pub fn screened(bytes: &[u8], piece: usize) -> std::io::Result<Vec<u8>> {
    let (mut screen, mut passed) = (Screen::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        screen.room()[..piece.len()].copy_from_slice(piece);
        screen.received(piece.len())?;
        let mut into = [0; 100];
        while let count @ 1.. = screen.take(&mut into) {
            passed.extend_from_slice(&into[..count]);
        }
    }
    Ok(passed)
}

/// Receives a content header with these flags and properties as a message. Panics if lapin cannot parse it.
pub fn received(properties: &[u8], piece: usize) -> WireMessage {
    let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], properties].concat();
    let size = u32::try_from(payload.len()).expect("inputs are short").to_be_bytes();
    let frame = [&[2, 0, 1], &size[..], &payload, &[0xCE]].concat();
    let passed = screened(&frame, piece).expect("headers are repaired");
    let (rest, properties) = parse_properties(&passed[19..passed.len() - 1]).expect("lapin can parse what passes");
    assert!(rest.is_empty(), "lapin leaves {rest:?}");
    from_amqp(&properties, b"[[],{},null]".to_vec(), "taskq.dead", "taskq.dead").0
}

/// Sends a message, and receives it; `None` if AMQP has no room for it.
pub fn there_and_back(message: &WireMessage) -> Option<WireMessage> {
    let properties = to_amqp(message, 1, false, 128 << 10).ok()?;
    Some(from_amqp(&properties, message.body.to_vec(), "default", "default").0)
}

/// Parses an address, and returns the error.
pub fn address(url: &str) -> Option<String> {
    Addresses::parse(url, &TlsOptions::default()).err().map(|error| format!("{error} {error:?}"))
}
