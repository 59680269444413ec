//! Recording: entering a slot and leaving it, and the mark that a thread carries while it runs a body.
#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::flight::FlightEntry;
use super::layout::{self, Details, FREE, HEADER_BYTES, RUNNING, SLOT_BYTES, SLOTS_MAX, WRITING};

/// The recorder in which a process notes what it is running. There is one per process.
pub(crate) struct Recorder {
    slots: &'static [SlotMemory],
    began_ms: u64,
    missed: AtomicU64,
}

/// A slot in the file's memory.
#[repr(C)]
struct SlotMemory {
    state: AtomicU32,
    culprit: AtomicU32,
    details: UnsafeCell<Details>,
}

// SAFETY: the details are written only by the thread that took the slot (`FREE` → `WRITING`, a compare-and-swap that
// one thread wins), and no code in this process reads them.
unsafe impl Sync for SlotMemory {}

const _: () = assert!(size_of::<SlotMemory>() == SLOT_BYTES, "a slot is as long as its place in the file");

thread_local! {
    /// The culprit mark of the body that this thread is running; null between bodies. Without a destructor and const,
    /// so that a signal handler may read it.
    pub(super) static CURRENT: Cell<*const AtomicU32> = const { Cell::new(ptr::null()) };
    /// The slot that this thread had last: most likely free, and in its cache.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

impl Recorder {
    /// Creates the file at `path`, which must not exist, with `slots` slots, for this process.
    pub(crate) fn create(path: &Path, slots: usize) -> io::Result<Arc<Self>> {
        let slots = slots.clamp(1, SLOTS_MAX);
        let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let mut options = OpenOptions::new();
        // Never over a file that is there: it may be all that is left of a dead process.
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        // Written out rather than left as a hole: a full disk is an error here, and would be a crash later.
        let mut bytes = vec![0; HEADER_BYTES + slots * SLOT_BYTES];
        layout::write_header(&mut bytes, slots as u32, std::process::id(), began_ms);
        file.write_all(&bytes)?;
        Ok(Arc::new(Self { slots: map(&file, slots)?, began_ms, missed: AtomicU64::new(0) }))
    }

    /// Returns when this process began to record, in milliseconds since 1970. Together with its id, this identifies it.
    pub(crate) fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Takes a slot for a body. Without a free one the body runs unseen, and is counted in [`missed`](Self::missed).
    pub(crate) fn enter(&self, entry: &FlightEntry<'_>) -> Slot {
        let taken = self.take_free();
        let Some((at, record)) = taken else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return Slot { taken };
        };
        record.culprit.store(0, Ordering::Relaxed);
        // SAFETY: this thread has just taken the slot, so until it is left no other thread writes here; the memory is
        // mapped for as long as the process lives.
        unsafe { (*record.details.get()).fill(entry) };
        record.state.store(RUNNING, Ordering::Release);
        LAST.set(at);
        Slot { taken }
    }

    /// Returns the number of bodies that found no slot.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn take_free(&self) -> Option<(usize, &'static SlotMemory)> {
        let count = self.slots.len();
        let first = LAST.get().min(count - 1);
        (first..count).chain(0..first).find_map(|at| {
            let record = &self.slots[at];
            let taken = record.state.load(Ordering::Relaxed) == FREE
                && record.state.compare_exchange(FREE, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok();
            taken.then_some((at, record))
        })
    }
}

/// The slot of a body. Dropping it frees the slot.
#[derive(Default)]
pub(crate) struct Slot {
    taken: Option<(usize, &'static SlotMemory)>,
}

impl Slot {
    /// Attributes a crash of this thread to this slot's body until the mark is dropped.
    pub(crate) fn mark(&self) -> Mark {
        let culprit = self.taken.map_or(ptr::null(), |(_, record)| &raw const record.culprit);
        Mark { earlier: CURRENT.replace(culprit), thread: PhantomData }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((at, record)) = self.taken {
            record.state.store(FREE, Ordering::Release);
            LAST.set(at);
        }
    }
}

/// The mark that a thread carries while it runs a body. It cannot leave that thread.
pub(crate) struct Mark {
    earlier: *const AtomicU32,
    thread: PhantomData<*const ()>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = self.thread;
        CURRENT.set(self.earlier);
    }
}

#[cfg(unix)]
fn map(file: &std::fs::File, slots: usize) -> io::Result<&'static [SlotMemory]> {
    use std::os::fd::AsRawFd;

    let length = HEADER_BYTES + slots * SLOT_BYTES;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses, of a file that is open and `length` long.
    let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping begins at a page, so the slots behind the header are aligned; it is `length` long and zeroed,
    // which is a valid slot; it is never unmapped, since a crash may look at it at any time, so it is `'static`; and
    // whatever changes in a slot lies in atomics or an `UnsafeCell`.
    Ok(unsafe { std::slice::from_raw_parts(start.byte_add(HEADER_BYTES).cast::<SlotMemory>(), slots) })
}

#[cfg(not(unix))]
fn map(_file: &std::fs::File, _slots: usize) -> io::Result<&'static [SlotMemory]> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "workers are supervised on Unix only"))
}

#[cfg(test)]
pub(crate) mod tests;
