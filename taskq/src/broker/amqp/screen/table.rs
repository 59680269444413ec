//! The check of a header table: whether lapin's parser can read it, and how deep it is nested. Pure.
//!
//! The grammar is RabbitMQ's, as lapin reads it: <https://www.rabbitmq.com/docs/amqp-0-9-1-errata#section_3>.

use super::super::screen;

/// The deepest nesting of tables and lists in a header that is read; Celery's own headers have one level.
pub(in super::super) const DEPTH_MAX: usize = 32;

/// The reason why a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum TableFault {
    #[error("nested deeper than {} levels", screen::DEPTH_MAX)]
    TooDeep,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("of the unknown type {0:#04x}")]
    UnknownType(u8),
    #[error("cut off")]
    CutOff,
}

/// Bytes that are read from their beginning.
pub(super) struct ByteReader<'a>(pub(super) &'a [u8]);

impl<'a> ByteReader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], TableFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TableFault::CutOff)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, TableFault> {
        Ok(self.take(1)?[0])
    }

    /// Bytes after their number, which takes four bytes.
    pub(super) fn long(&mut self) -> Result<&'a [u8], TableFault> {
        let size = self.take(4)?;
        self.take(u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
    }

    /// Bytes after their number, which takes one byte.
    pub(super) fn short(&mut self) -> Result<&'a [u8], TableFault> {
        let size = self.byte()?;
        self.take(usize::from(size))
    }

    /// The bytes of a value after its type, and after their number where they have one. Fails if they do not tell where
    /// it ends.
    pub(super) fn value(&mut self, kind: u8) -> Result<&'a [u8], TableFault> {
        match kind {
            b'V' => self.take(0),
            b't' | b'b' | b'B' => self.take(1),
            b's' | b'U' | b'u' => self.take(2),
            b'I' | b'i' | b'f' => self.take(4),
            b'D' => self.take(5),
            b'l' | b'L' | b'd' | b'T' => self.take(8),
            b'S' | b'x' | b'A' | b'F' => self.long(),
            unknown => Err(TableFault::UnknownType(unknown)),
        }
    }
}

/// Checks the table at the beginning of `bytes`; what follows it is not looked at.
pub(super) fn check_first(bytes: &[u8]) -> Result<(), TableFault> {
    check(ByteReader(bytes).long()?)
}

/// Checks the entries of a table, without the number of bytes before them.
pub(super) fn check(entries: &[u8]) -> Result<(), TableFault> {
    entries_of_table(entries, 1)
}

/// Checks a value of a table.
pub(super) fn check_value(kind: u8, value: &[u8]) -> Result<(), TableFault> {
    content(kind, value, 1)
}

/// `depth` counts the tables and lists around and including this one.
fn entries_of_table(entries: &[u8], depth: usize) -> Result<(), TableFault> {
    let mut reader = ByteReader(entries);
    while !reader.0.is_empty() {
        std::str::from_utf8(reader.short()?).map_err(|_| TableFault::NotUtf8)?;
        let kind = reader.byte()?;
        content(kind, reader.value(kind)?, depth)?;
    }
    Ok(())
}

fn items_of_list(items: &[u8], depth: usize) -> Result<(), TableFault> {
    let mut reader = ByteReader(items);
    while !reader.0.is_empty() {
        let kind = reader.byte()?;
        content(kind, reader.value(kind)?, depth)?;
    }
    Ok(())
}

fn content(kind: u8, value: &[u8], depth: usize) -> Result<(), TableFault> {
    match kind {
        b'A' | b'F' if depth > DEPTH_MAX => Err(TableFault::TooDeep),
        b'A' => items_of_list(value, depth + 1),
        b'F' => entries_of_table(value, depth + 1),
        _ => Ok(()),
    }
}
