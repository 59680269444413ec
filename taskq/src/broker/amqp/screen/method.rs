//! Names in the broker's methods that are not UTF-8, repaired in place. Pure.
//!
//! A message's exchange and routing key come from its sender, and the broker cuts its own texts after 255 bytes,
//! possibly within a character. lapin gives up the connection over either.

use super::table::{self, TableFault};

/// A part of a method's arguments.
enum MethodPart {
    /// A short string.
    Text,
    /// This many bytes of another kind.
    Bytes(usize),
}

/// The first arguments of methods with texts that others decide on, by class and method; AMQP 0-9-1, section 4.
const fn layout(class: u16, method: u16) -> &'static [MethodPart] {
    use MethodPart::{Bytes, Text};
    match (class, method) {
        // connection.close and channel.close: code, text.
        (10, 50) | (20, 40) => &[Bytes(2), Text],
        // connection.blocked: reason. basic.cancel: consumer. queue.declare-ok: queue.
        (10, 60) | (60, 30) | (50, 11) => &[Text],
        // basic.return: code, text, exchange, routing key.
        (60, 50) => &[Bytes(2), Text, Text, Text],
        // basic.deliver: consumer, delivery tag, redelivered, exchange, routing key.
        (60, 60) => &[Text, Bytes(9), Text, Text],
        // basic.get-ok: delivery tag, redelivered, exchange, routing key.
        (60, 71) => &[Bytes(9), Text, Text],
        _ => &[],
    }
}

/// Replaces each byte of a text that is not UTF-8 by a question mark. Fails if the broker's greeting has properties
/// that lapin cannot read.
pub(super) fn repair(payload: &mut [u8]) -> Result<(), TableFault> {
    let Some(&[class_high, class, method_high, method]) = payload.first_chunk() else { return Ok(()) };
    let (class, method) = (u16::from_be_bytes([class_high, class]), u16::from_be_bytes([method_high, method]));
    if (class, method) == (10, 10) {
        // connection.start: version, properties.
        return table::check_first(payload.get(6..).unwrap_or_default());
    }
    let mut at = 4;
    for part in layout(class, method) {
        match part {
            MethodPart::Bytes(count) => at += count,
            MethodPart::Text => {
                let Some(size) = payload.get(at) else { return Ok(()) };
                let end = at + 1 + usize::from(*size);
                let Some(text) = payload.get_mut(at + 1..end) else { return Ok(()) };
                repair_text(text);
                at = end;
            }
        }
    }
    Ok(())
}

fn repair_text(text: &mut [u8]) {
    let mut from = 0;
    while let Err(fault) = std::str::from_utf8(&text[from..]) {
        let bad = from + fault.valid_up_to();
        let count = fault.error_len().unwrap_or(text.len() - bad);
        text[bad..bad + count].fill(b'?');
        from = bad + count;
    }
}
