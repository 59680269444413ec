//! The screen between the broker's bytes and lapin's parser. Pure.
//!
//! lapin gives up the whole connection over a frame that it cannot parse, and its parser recurses into header tables as
//! deep as their sender has nested them. Both would let one message stop every worker of its queue, since the broker
//! hands it to the next one. So each frame whose content other programs decide on is looked at first: a content header
//! that would not be parsed, or that is nested deeper than [`DEPTH_MAX`], is replaced by one that has what can be kept
//! of it and says what cannot ([`content_header`]), and names in methods are repaired in place ([`method`]). The
//! message then takes the way of every message that cannot be understood, into the dead set.
//!
//! ```text
//! socket --> Screen --> lapin
//!              |-- content_header (replace?)  |-- table (what is wrong?)
//!              '-- method (repair)
//! ```

mod content_header;
mod method;
mod table;

use std::io;

pub(super) use table::DEPTH_MAX;

/// The size of a frame's head: type, channel, size.
const HEAD: usize = 7;
/// The size of the mark at a frame's end.
const END: usize = 1;

/// Types of frames, by AMQP 0-9-1, section 4.2.3.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The largest frame that is screened, in bytes. Brokers send content headers as large as another client was allowed to
/// make them, whatever this connection allows.
const FRAME_MAX: usize = 16 << 20;

/// The room for received bytes, at least.
const ROOM: usize = 32 << 10;

/// A buffer of received bytes: those that were screened and can be taken, followed by those that were not.
#[derive(Debug, Default)]
pub(super) struct Screen {
    bytes: Vec<u8>,
    /// The end of what was taken of `bytes`.
    taken: usize,
    /// The end of what was screened.
    screened: usize,
    /// The end of what was received. Behind it is room.
    received: usize,
    /// The number of bytes to come that belong to a frame which needs no screening.
    through: usize,
    /// The broker's greeting, which is its first method.
    greeting: Greeting,
}

/// The broker's greeting on a connection.
#[derive(Debug, Default)]
enum Greeting {
    #[default]
    Awaited,
    /// The payload of its frame, until it is taken.
    Received(Vec<u8>),
    Taken,
}

impl Screen {
    /// Takes screened bytes, as many as fit into `into`, and returns their number.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.screened - self.taken);
        into[..count].copy_from_slice(&self.bytes[self.taken..self.taken + count]);
        self.taken += count;
        if self.taken == self.screened {
            // What remains is part of one frame.
            self.bytes.copy_within(self.taken..self.received, 0);
            self.received -= self.taken;
            (self.taken, self.screened) = (0, 0);
        }
        count
    }

    /// Room for bytes to receive; [`received`](Self::received) tells how many there are in it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.received < ROOM {
            self.bytes.resize(self.received + ROOM, 0);
        }
        &mut self.bytes[self.received..]
    }

    /// Screens the first `count` bytes of the [room](Self::room). An error means that the connection is of no use.
    pub(super) fn received(&mut self, count: usize) -> io::Result<()> {
        self.received += count;
        self.screen()
    }

    /// The payload of the broker's greeting, once: when it has just been received.
    pub(super) fn take_greeting(&mut self) -> Option<Vec<u8>> {
        if !matches!(self.greeting, Greeting::Received(_)) {
            return None;
        }
        match std::mem::replace(&mut self.greeting, Greeting::Taken) {
            Greeting::Received(payload) => Some(payload),
            Greeting::Awaited | Greeting::Taken => None,
        }
    }

    /// Screens all frames that are complete.
    fn screen(&mut self) -> io::Result<()> {
        loop {
            let unseen = &self.bytes[self.screened..self.received];
            if self.through > 0 {
                let passing = self.through.min(unseen.len());
                self.screened += passing;
                self.through -= passing;
                if self.through > 0 {
                    return Ok(());
                }
                continue;
            }
            let Some((head, _)) = unseen.split_first_chunk::<HEAD>() else { return Ok(()) };
            let [kind, _, _, size @ ..] = *head;
            let size = u32::from_be_bytes(size) as usize;
            match kind {
                METHOD | HEADER if size > FRAME_MAX => {
                    let text = format!("the broker sent a frame of {size} bytes, and {FRAME_MAX} is the maximum");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                METHOD | HEADER => {
                    if unseen.len() < HEAD + size + END {
                        return Ok(());
                    }
                    self.screen_frame(kind, size)?;
                }
                BODY | HEARTBEAT => self.through = HEAD + size + END,
                // This is no AMQP 0-9-1. lapin knows how to say so.
                _ => self.through = usize::MAX,
            }
        }
    }

    /// Screens the next frame, which is complete.
    fn screen_frame(&mut self, kind: u8, size: usize) -> io::Result<()> {
        let payload = self.screened + HEAD..self.screened + HEAD + size;
        if kind == METHOD {
            method::repair(&mut self.bytes[payload.clone()])
                .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault.to_string()))?;
            if matches!(self.greeting, Greeting::Awaited) {
                self.greeting = Greeting::Received(self.bytes[payload.clone()].to_vec());
            }
        } else if let Some(replacement) = content_header::replacement(&self.bytes[payload.clone()]) {
            let size = u32::try_from(replacement.len()).expect("a replacement is cut to far less");
            self.bytes[payload.start - 4..payload.start].copy_from_slice(&size.to_be_bytes());
            self.screened = payload.start + replacement.len() + END;
            self.received = self.received - payload.len() + replacement.len();
            self.bytes.splice(payload, replacement);
            return Ok(());
        }
        self.screened = payload.end + END;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
