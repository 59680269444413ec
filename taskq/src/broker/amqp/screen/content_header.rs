//! The check of a content header, and the replacement of one that cannot be read. Pure.
//!
//! Source: AMQP 0-9-1, section 4.2.6, and the class `basic`, whose properties are listed here in their order.

use super::table::{self, ByteReader, TableFault};
use crate::codec::celery::UNREADABLE;

/// The size of what precedes the properties: class, weight, and the size of the body.
const BEFORE_FLAGS: usize = 12;

/// The largest header that is passed on as it is, in bytes: what fits into the largest frame that a connection of ours
/// allows.
const PAYLOAD_MAX: usize = (128 << 10) - super::HEAD - super::END;

/// The maximum size of a replacement's table, in bytes, without the note.
const TABLE_MAX: usize = 64 << 10;

/// The maximum number of faults that are named.
const NAMED_MAX: usize = 5;

/// The maximum number of characters of a header's name in a fault.
const NAME_MAX: usize = 80;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Short,
    Table,
    Octet,
    Time,
}

const PROPERTIES: [(&str, Form); 14] = [
    ("content type", Form::Short),
    ("content encoding", Form::Short),
    ("header table", Form::Table),
    ("delivery mode", Form::Octet),
    ("priority", Form::Octet),
    ("correlation id", Form::Short),
    ("reply address", Form::Short),
    ("expiration", Form::Short),
    ("message id", Form::Short),
    ("timestamp", Form::Time),
    ("type", Form::Short),
    ("user id", Form::Short),
    ("application id", Form::Short),
    ("cluster id", Form::Short),
];

const TABLE_FLAG: u16 = flag(2);

/// The flag of the property in this place.
const fn flag(place: usize) -> u16 {
    1 << (15 - place)
}

/// The content header to be read in place of `payload`; `None` if that can be read itself.
///
/// What can be read is kept. The header [`UNREADABLE`] names the rest.
pub(super) fn replacement(payload: &[u8]) -> Option<Vec<u8>> {
    let (before, properties) = payload.split_at_checked(BEFORE_FLAGS)?;
    let is_readable = payload.len() <= PAYLOAD_MAX && check(properties).is_ok();
    (!is_readable).then(|| [before, &KeptProperties::of(properties).into_bytes()].concat())
}

/// Checks the properties and the flags before them.
fn check(properties: &[u8]) -> Result<(), TableFault> {
    let mut reader = ByteReader(properties);
    let flags = u16::from_be_bytes(*reader.take(2)?.first_chunk().ok_or(TableFault::CutOff)?);
    for (place, (_, form)) in PROPERTIES.iter().enumerate() {
        if flags & flag(place) == 0 {
            continue;
        }
        match form {
            Form::Short => drop(std::str::from_utf8(reader.short()?).map_err(|_| TableFault::NotUtf8)?),
            Form::Table => table::check(reader.long()?)?,
            Form::Octet => drop(reader.byte()?),
            Form::Time => drop(reader.take(8)?),
        }
    }
    if reader.0.is_empty() { Ok(()) } else { Err(TableFault::CutOff) }
}

/// The part of properties that can be kept.
#[derive(Default)]
struct KeptProperties {
    flags: u16,
    before_table: Vec<u8>,
    entries: Vec<u8>,
    after_table: Vec<u8>,
    faults: Vec<String>,
}

impl KeptProperties {
    fn of(properties: &[u8]) -> Self {
        let mut kept = Self::default();
        let mut reader = ByteReader(properties);
        let Ok(flags) = reader.take(2) else {
            kept.faults.push("the properties are cut off".to_owned());
            return kept;
        };
        let flags = u16::from_be_bytes([flags[0], flags[1]]);
        for (place, (name, form)) in PROPERTIES.iter().enumerate() {
            if flags & flag(place) != 0
                && let Err(fault) = kept.property(place, *form, name, &mut reader)
            {
                // Nothing after it can be found.
                kept.faults.push(format!("the {name} is {fault}"));
                return kept;
            }
        }
        if !reader.0.is_empty() {
            kept.faults.push(format!("{} bytes follow the properties that AMQP knows", reader.0.len()));
        }
        kept
    }

    /// Keeps the next property if it can be read. Fails if its end cannot be found.
    fn property(
        &mut self,
        place: usize,
        form: Form,
        name: &str,
        reader: &mut ByteReader<'_>,
    ) -> Result<(), TableFault> {
        let all = reader.0;
        match form {
            Form::Short => {
                if std::str::from_utf8(reader.short()?).is_err() {
                    self.faults.push(format!("the {name} is {}", TableFault::NotUtf8));
                    return Ok(());
                }
            }
            Form::Table => {
                let entries = reader.long()?;
                self.table(entries);
                return Ok(());
            }
            Form::Octet => drop(reader.byte()?),
            Form::Time => drop(reader.take(8)?),
        }
        self.flags |= flag(place);
        let part = if flag(place) > TABLE_FLAG { &mut self.before_table } else { &mut self.after_table };
        part.extend_from_slice(&all[..all.len() - reader.0.len()]);
        Ok(())
    }

    /// Keeps the entries of the header table that can be read.
    fn table(&mut self, entries: &[u8]) {
        let mut reader = ByteReader(entries);
        while !reader.0.is_empty() {
            let all = reader.0;
            let name = match reader.short() {
                Ok(name) => name,
                Err(fault) => return self.faults.push(format!("the header table is {fault}")),
            };
            let shown: String = String::from_utf8_lossy(name).chars().take(NAME_MAX).collect();
            let value = reader.byte().and_then(|kind| Ok((kind, reader.value(kind)?)));
            let (kind, value) = match value {
                Ok(value) => value,
                // Nothing after it can be found.
                Err(fault) => return self.faults.push(format!("the header {shown:?} is {fault}")),
            };
            let entry = &all[..all.len() - reader.0.len()];
            let checked = std::str::from_utf8(name).map_err(|_| TableFault::NotUtf8);
            match checked.and_then(|_| table::check_value(kind, value)) {
                Ok(()) if self.entries.len() + entry.len() > TABLE_MAX => {
                    self.faults.push(format!("the header {shown:?} of {} bytes has no room", entry.len()));
                }
                Ok(()) => self.entries.extend_from_slice(entry),
                Err(fault) => self.faults.push(format!("the header {shown:?} is {fault}")),
            }
        }
    }

    /// Writes the properties, with the flags before them.
    fn into_bytes(mut self) -> Vec<u8> {
        let more = self.faults.len().saturating_sub(NAMED_MAX);
        self.faults.truncate(NAMED_MAX);
        self.faults.extend((more > 0).then(|| format!("and {more} more")));
        let note = self.faults.join("; ");
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("the parts are cut to far less").to_be_bytes();
        self.entries.push(u8::try_from(UNREADABLE.len()).expect("it is a short name"));
        self.entries.extend_from_slice(UNREADABLE.as_bytes());
        self.entries.push(b'S');
        self.entries.extend_from_slice(&size(note.as_bytes()));
        self.entries.extend_from_slice(note.as_bytes());
        let flags = (self.flags | TABLE_FLAG).to_be_bytes();
        [&flags[..], &self.before_table, &size(&self.entries), &self.entries, &self.after_table].concat()
    }
}
