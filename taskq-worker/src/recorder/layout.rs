//! The layout of a recording in its file: a header, then slots of equal length. Pure.
//!
//! Numbers are in the byte order of the machine that wrote them; another order shows as an unknown version.

use super::flight::{Flight, FlightEntry, ID_MAX, Recording, TASK_MAX};

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const SLOT_BYTES: usize = 256;

/// The largest number of tasks that are recorded at the same time.
pub(super) const SLOTS_MAX: usize = 1 << 16;

const MAGIC: [u8; 8] = *b"taskq-fr";
const VERSION: u32 = 1;

/// The states of a slot. To a reader `WRITING` means free: the body has not begun.
pub(super) const FREE: u32 = 0;
pub(super) const WRITING: u32 = 1;
pub(super) const RUNNING: u32 = 2;

/// The offsets of a slot's parts, in bytes from its beginning.
const STATE: usize = 0;
const CULPRIT: usize = 4;
const DETAILS: usize = 8;

/// The task in a slot.
#[repr(C)]
pub(super) struct Details {
    since_ms: u64,
    generation: u32,
    attempt: u32,
    in_quarantine: u8,
    id_bytes: u8,
    task_bytes: u8,
    spare: [u8; 5],
    id: [u8; ID_MAX],
    task: [u8; TASK_MAX],
    rest: [u8; 32],
}

const _: () = assert!(size_of::<Details>() == SLOT_BYTES - DETAILS);

impl Details {
    pub(super) fn fill(&mut self, entry: &FlightEntry<'_>) {
        self.since_ms = entry.since_ms;
        self.generation = entry.generation;
        self.attempt = entry.attempt;
        self.in_quarantine = entry.in_quarantine.into();
        self.id_bytes = put(&mut self.id, entry.id);
        self.task_bytes = put(&mut self.task, entry.task);
    }
}

/// Copies as much of `text` as fits, in whole characters, and returns the number of bytes.
fn put<const N: usize>(place: &mut [u8; N], text: &str) -> u8 {
    const { assert!(N <= u8::MAX as usize) };
    let bytes = text.floor_char_boundary(N);
    place[..bytes].copy_from_slice(&text.as_bytes()[..bytes]);
    bytes as u8
}

pub(super) fn write_header(bytes: &mut [u8], slots: u32, pid: u32, began_ms: u64) {
    bytes[..8].copy_from_slice(&MAGIC);
    for (at, number) in [(8, VERSION), (12, slots), (16, pid)] {
        bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    bytes[24..32].copy_from_slice(&began_ms.to_ne_bytes());
}

/// Reads the bytes of a recording. Fails with the reason why they are none.
pub(super) fn parse(bytes: &[u8]) -> Result<Recording, String> {
    let Some((header, slots)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("it has {} bytes, less than a header", bytes.len()));
    };
    if !header.starts_with(&MAGIC) {
        return Err("it begins with something else".to_owned());
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(format!("it is of version {version}, and {VERSION} is known"));
    }
    let count = u32_at(header, 12) as usize;
    Ok(Recording {
        pid: u32_at(header, 16),
        began_ms: u64_at(header, 24),
        flights: slots.chunks_exact(SLOT_BYTES).take(count).filter_map(flight).collect(),
    })
}

/// Reads the flight in a slot, if there is a valid one.
fn flight(slot: &[u8]) -> Option<Flight> {
    if u32_at(slot, STATE) != RUNNING {
        return None;
    }
    let at = |offset| DETAILS + offset;
    let text = |start: usize, bytes: u8, max: usize| {
        let bytes = usize::from(bytes);
        (bytes <= max).then(|| str::from_utf8(&slot[start..start + bytes]).ok().map(str::to_owned)).flatten()
    };
    let id = text(at(std::mem::offset_of!(Details, id)), slot[at(std::mem::offset_of!(Details, id_bytes))], ID_MAX)?;
    let task_bytes = slot[at(std::mem::offset_of!(Details, task_bytes))];
    let task = text(at(std::mem::offset_of!(Details, task)), task_bytes, TASK_MAX)?;
    // Without an id no task could be charged.
    (!id.is_empty()).then(|| Flight {
        id,
        task,
        generation: u32_at(slot, at(std::mem::offset_of!(Details, generation))),
        attempt: u32_at(slot, at(std::mem::offset_of!(Details, attempt))),
        in_quarantine: slot[at(std::mem::offset_of!(Details, in_quarantine))] != 0,
        since_ms: u64_at(slot, at(std::mem::offset_of!(Details, since_ms))),
        culprit: u32_at(slot, CULPRIT) != 0,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
