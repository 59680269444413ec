//! The flight recorder: a small memory-mapped file with a slot for each task that runs at once.
//!
//! A task enters its slot when its body begins and leaves it when the body has ended; both are a few stores into
//! memory, without a system call. The kernel owns the pages, so they outlive any death of the process, and whoever is
//! left reads them ([`read`]). What a body leaves behind to be settled cannot crash the process any more, so the slot
//! is free by then.
//!
//! While a thread runs a body, it carries a [`Mark`]: a thread-local pointer to the body's slot. A handler for the
//! signals of a crash follows it and notes that this very body crashed, then lets the signal do what it would have done.
//!
//! Here and in `supervise/unix.rs` is all the `unsafe` code there is.
#![allow(unsafe_code)]

mod layout;

use std::cell::{Cell, UnsafeCell};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use self::layout::{Details, FREE, HEADER_BYTES, RUNNING, SLOT_BYTES, SLOTS_MAX, WRITING};
use super::flight::Recording;

/// Where a process notes what it is running. There is one per process.
pub(crate) struct Recorder {
    slots: &'static [Record],
    began_ms: u64,
    missed: AtomicU64,
}

/// A slot as it lies in the file.
#[repr(C)]
struct Record {
    state: AtomicU32,
    culprit: AtomicU32,
    details: UnsafeCell<Details>,
}

// SAFETY: the details are written only by whoever took the slot (`FREE` → `WRITING`, a compare-and-swap that one thread
// wins), and nobody in this process reads them.
unsafe impl Sync for Record {}

const _: () = assert!(size_of::<Record>() == SLOT_BYTES, "a slot is as long as its place in the file");

/// A body that begins, as it is noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// See [`Flight`](super::flight::Flight), also for the others.
    pub(crate) id: &'a str,
    pub(crate) task: &'a str,
    pub(crate) generation: u32,
    pub(crate) attempt: u32,
    pub(crate) alone: bool,
    pub(crate) since_ms: u64,
}

thread_local! {
    /// The culprit mark of the body that this thread is running; null between bodies. Without a destructor and const, so
    /// that a signal handler may read it.
    static CURRENT: Cell<*const AtomicU32> = const { Cell::new(ptr::null()) };
    /// The slot that this thread had last: most likely free, and in its cache.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

impl Recorder {
    /// Makes the file at `path`, which must not exist, with `slots` slots, for this process.
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

    /// When this process began to record, in milliseconds since 1970; with its id, its name among all processes.
    pub(crate) fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Takes a slot for a body. Without a free one the body runs unseen, and is counted in [`missed`](Self::missed).
    pub(crate) fn enter(&self, entry: &Entry<'_>) -> Slot {
        let taken = self.take_free();
        let Some((at, record)) = taken else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return Slot { taken };
        };
        record.culprit.store(0, Ordering::Relaxed);
        // SAFETY: this thread has just taken the slot, so until it is left nobody else writes here; the memory is mapped
        // for as long as the process lives.
        unsafe { (*record.details.get()).fill(entry) };
        record.state.store(RUNNING, Ordering::Release);
        LAST.set(at);
        Slot { taken }
    }

    /// How many bodies found no slot.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    fn take_free(&self) -> Option<(usize, &'static Record)> {
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

/// A body's slot. Dropped, it is free again.
#[derive(Default)]
pub(crate) struct Slot {
    taken: Option<(usize, &'static Record)>,
}

impl Slot {
    /// From here until the mark is dropped, a crash of this thread is put down to this slot's body.
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

/// What a thread carries while it runs a body; it cannot leave that thread.
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

/// Reads what a process left behind, however it ended. A file that is no recorder's, or of another version, is an error
/// of kind `InvalidData`; of a file that was cut off, what is there is read.
pub(crate) fn read(path: &Path) -> io::Result<Recording> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take((HEADER_BYTES + SLOTS_MAX * SLOT_BYTES) as u64).read_to_end(&mut bytes)?;
    layout::parse(&bytes)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no recording: {why}", path.display())))
}

#[cfg(unix)]
fn map(file: &std::fs::File, slots: usize) -> io::Result<&'static [Record]> {
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
    Ok(unsafe { std::slice::from_raw_parts(start.byte_add(HEADER_BYTES).cast::<Record>(), slots) })
}

#[cfg(not(unix))]
fn map(_file: &std::fs::File, _slots: usize) -> io::Result<&'static [Record]> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "workers are supervised on Unix only"))
}

#[cfg(unix)]
pub(crate) use crash::mark_culprits;

#[cfg(not(unix))]
pub(crate) fn mark_culprits() {}

#[cfg(unix)]
mod crash {
    //! The signals of a crash.

    use std::mem::{MaybeUninit, transmute};
    use std::ptr;
    use std::sync::atomic::Ordering;
    use std::sync::{Once, OnceLock};

    use libc::{c_int, c_void, sigaction, siginfo_t};

    use super::CURRENT;

    /// The signals that a fault or an abort sends to the thread that made it.
    const CRASHES: [c_int; 5] = [libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

    /// What was done about each of them before.
    static EARLIER: [OnceLock<sigaction>; CRASHES.len()] = [const { OnceLock::new() }; CRASHES.len()];

    /// From now on a crash marks the slot of the body that the crashing thread is running. What a signal would have done
    /// it still does: std's handler says that a stack overflowed, and in the end the process dies of the signal.
    pub(crate) fn mark_culprits() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            for (signal, earlier) in CRASHES.into_iter().zip(&EARLIER) {
                install(signal, earlier);
            }
        });
    }

    fn install(signal: c_int, earlier: &OnceLock<sigaction>) {
        // SAFETY: `sigaction` with a null pointer for the new action only fills in `found`.
        let found = unsafe {
            let mut found = MaybeUninit::<sigaction>::zeroed();
            if libc::sigaction(signal, ptr::null(), found.as_mut_ptr()) != 0 {
                return;
            }
            found.assume_init()
        };
        // Whoever has the signal ignored does not die of it.
        if found.sa_sigaction == libc::SIG_IGN {
            return;
        }
        // Before the handler is there, which reads it.
        let _ = earlier.set(found);
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_crash;
        // SAFETY: zeroes are a valid `sigaction` with an empty mask. The handler has the form that SA_SIGINFO asks for and
        // does only what a handler may. SA_ONSTACK runs it on the stack that std gives each thread for signals, without
        // which it could not run after a stack overflow.
        unsafe {
            let mut action = MaybeUninit::<sigaction>::zeroed().assume_init();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, ptr::null_mut());
        }
    }

    /// Only loads and stores, `sigaction` and `raise` are used here, all of which a handler may.
    extern "C" fn on_crash(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        let culprit = CURRENT.get();
        if !culprit.is_null() {
            // SAFETY: what is not null here points into the mapping, which is there for as long as the process.
            unsafe { (*culprit).store(1, Ordering::Relaxed) };
        }
        let earlier = CRASHES.iter().position(|known| *known == signal).and_then(|at| EARLIER[at].get());
        match earlier {
            Some(action) if action.sa_sigaction != libc::SIG_DFL => {
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    // SAFETY: a handler that was installed with SA_SIGINFO takes these three.
                    let handler = unsafe {
                        transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(action.sa_sigaction)
                    };
                    handler(signal, info, context);
                } else {
                    // SAFETY: a handler that was installed without it takes the signal alone.
                    let handler = unsafe { transmute::<usize, extern "C" fn(c_int)>(action.sa_sigaction) };
                    handler(signal);
                }
            }
            _ => die_of(signal, info),
        }
    }

    /// Lets the signal do what it does by default, once the handler returns: a fault happens again by itself, what was
    /// sent is sent again.
    fn die_of(signal: c_int, info: *const siginfo_t) {
        // SAFETY: zeroes are the default action with an empty mask, and `info` is the kernel's.
        unsafe {
            let action = MaybeUninit::<sigaction>::zeroed().assume_init();
            libc::sigaction(signal, &raw const action, ptr::null_mut());
            if (*info).si_code <= 0 {
                libc::raise(signal);
            }
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
pub(crate) mod tests;
