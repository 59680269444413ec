//! The recorder: running tasks are in the file, whatever became of the file and the process.

use std::path::PathBuf;

pub(crate) use libc::{SIGABRT, SIGILL, SIGKILL, SIGSEGV};
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::flight::{Flight, ID_MAX, TASK_MAX};
use super::super::read;
use super::*;

/// A file that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("taskq-recorder-{}-{name}-{count}", std::process::id()));
        // Left over from an earlier process with this id, if at all.
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn entry<'a>(id: &'a str, task: &'a str) -> FlightEntry<'a> {
    FlightEntry { id, task, generation: 2, attempt: 3, in_quarantine: false, since_ms: 1_700_000_000_123 }
}

fn ids(path: &Path) -> Vec<String> {
    let mut ids: Vec<_> = read(path).expect("it is a recording").flights.into_iter().map(|flight| flight.id).collect();
    ids.sort();
    ids
}

#[test]
fn what_is_in_the_air_is_in_the_file() {
    let file = Scratch::new("air");
    let recorder = Recorder::create(&file.0, 2).expect("a temporary file can be made");
    assert_eq!(ids(&file.0), [""; 0]);
    let one = recorder.enter(&FlightEntry { in_quarantine: true, ..entry("one", "shop.buy") });
    let recording = read(&file.0).expect("it is a recording");
    assert_eq!((recording.pid, recording.began_ms), (std::process::id(), recorder.began_ms()));
    let flight = Flight {
        id: "one".into(),
        task: "shop.buy".into(),
        generation: 2,
        attempt: 3,
        in_quarantine: true,
        since_ms: 1_700_000_000_123,
        culprit: false,
    };
    assert_eq!(recording.flights, [flight]);
    let two = recorder.enter(&entry("two", "t"));
    let unseen = recorder.enter(&entry("three", "t"));
    assert_eq!((ids(&file.0), recorder.missed()), (vec!["one".to_owned(), "two".to_owned()], 1));
    drop((one, unseen));
    assert_eq!(ids(&file.0), ["two"]);
    let again = recorder.enter(&entry("four", "t"));
    assert_eq!(ids(&file.0), ["four", "two"]);
    drop((two, again));
    assert_eq!(ids(&file.0), [""; 0]);
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let file = Scratch::new("there");
    std::fs::write(&file.0, "the last words of somebody").expect("a temporary file can be written");
    let refused = Recorder::create(&file.0, 1).map(drop).expect_err("it is there");
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn many_threads_share_the_slots() {
    const THREADS: usize = 4;
    let file = Scratch::new("threads");
    let recorder = Recorder::create(&file.0, THREADS).expect("a temporary file can be made");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let recorder = &recorder;
            scope.spawn(move || {
                for n in 0..20_000 {
                    drop(recorder.enter(&entry(&format!("{thread}-{n}"), "t")));
                }
            });
        }
    });
    assert_eq!((recorder.missed(), ids(&file.0)), (0, Vec::new()));
}

#[test]
fn only_the_body_that_runs_carries_the_mark() {
    let file = Scratch::new("mark");
    let recorder = Recorder::create(&file.0, 2).expect("a temporary file can be made");
    let (outer, inner) = (recorder.enter(&entry("outer", "t")), recorder.enter(&entry("inner", "t")));
    let culprit_of = |slot: &Slot| slot.taken.map_or(ptr::null(), |(_, record)| &raw const record.culprit);
    let mark = outer.mark();
    assert_eq!(CURRENT.get(), culprit_of(&outer));
    let nested = inner.mark();
    assert_eq!(CURRENT.get(), culprit_of(&inner));
    drop(nested);
    assert_eq!(CURRENT.get(), culprit_of(&outer));
    drop(mark);
    assert!(CURRENT.get().is_null());
}

#[test]
fn what_is_no_recording_is_refused() {
    let file = Scratch::new("foreign");
    for bytes in [&b""[..], b"taskq-fr", &[0; 400], &[b'x'; 4000]] {
        std::fs::write(&file.0, bytes).expect("a temporary file can be written");
        let refused = read(&file.0).expect_err("it is no recording");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
    }
    let missing = read(&Scratch::new("missing").0).expect_err("there is no file");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

/// The bytes of a recording with these flights and no free slot.
fn recorded(flights: &[(String, String)]) -> Vec<u8> {
    let file = Scratch::new("bytes");
    let recorder = Recorder::create(&file.0, flights.len()).expect("a temporary file can be made");
    let slots: Vec<Slot> = flights.iter().map(|(id, task)| recorder.enter(&entry(id, task))).collect();
    let bytes = std::fs::read(&file.0).expect("it has just been made");
    drop(slots);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn texts_are_kept_or_cut_at_a_character(id in "\\PC{1,90}", task in "\\PC{0,60}") {
        let recording = layout::parse(&recorded(&[(id.clone(), task.clone())])).expect("it is a recording");
        let flight = &recording.flights[0];
        prop_assert!(id.starts_with(&flight.id) && flight.id.len() <= ID_MAX);
        prop_assert!(id.len() > ID_MAX || flight.id == id);
        prop_assert!(task.starts_with(&flight.task) && flight.task.len() <= TASK_MAX);
        prop_assert!(task.len() > TASK_MAX || flight.task == task);
    }

    #[test]
    fn damage_never_panics_and_never_invents_much(
        length in 0usize..2000,
        damage in proptest::collection::vec((0usize..2000, any::<u8>()), 0..40),
    ) {
        let mut bytes = recorded(&[("a".into(), "b".into()), ("c".into(), "d".into())]);
        bytes.truncate(length);
        let undamaged = layout::parse(&bytes).map(|recording| recording.flights.len());
        let complete = length.saturating_sub(HEADER_BYTES) / SLOT_BYTES;
        // What was cut off is missing, and nothing else.
        prop_assert_eq!(undamaged.ok(), (length >= HEADER_BYTES).then_some(complete.min(2)));
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(recording) = layout::parse(&bytes) {
            prop_assert!(recording.flights.len() <= complete);
            prop_assert!(recording.flights.iter().all(|flight| !flight.id.is_empty()));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
        let _ = layout::parse(&bytes);
    }
}

/// Not a test of speed: prints what a task pays. In a release build that is worth reading.
#[test]
fn the_cost_of_a_slot() {
    const ROUNDS: u32 = 200_000;
    let file = Scratch::new("cost");
    let recorder = Recorder::create(&file.0, 16).expect("a temporary file can be made");
    // Some slots are occupied, as in a busy worker.
    let held: Vec<Slot> = (0..7).map(|_| recorder.enter(&entry("held", "t"))).collect();
    let entry = entry("0193aa2b-7c54-7000-8000-0123456789ab", "shop.orders.confirm");
    // The least of many, since other processes need the processor as well.
    let least = |round: &dyn Fn()| {
        let nanos = (0..20).map(|_| {
            let begun = Instant::now();
            (0..ROUNDS).for_each(|_| round());
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
        });
        nanos.fold(f64::INFINITY, f64::min)
    };
    let slot = least(&|| drop(std::hint::black_box(recorder.enter(std::hint::black_box(&entry)))));
    let one = recorder.enter(&entry);
    let mark = least(&|| drop(std::hint::black_box(one.mark())));
    println!("entering and leaving a slot: {slot:.1} ns; marking one poll: {mark:.1} ns");
    drop(held);
    assert_eq!(recorder.missed(), 0);
}

/// Crashes this process in the named way.
pub(crate) fn crash(how: &str) {
    match how {
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        // SAFETY: there is nothing at this address, so the process dies of it, as it is meant to.
        "fault" => unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
        "overflow" => drop(overflow(1)),
        // SAFETY: raising a signal is always sound.
        "illegal" => drop(unsafe { libc::raise(libc::SIGILL) }),
        "kill" => drop(unsafe { libc::raise(libc::SIGKILL) }),
        other => panic!("nobody knows how to crash by {other:?}"),
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn overflow(n: u64) -> u64 {
    let held = std::hint::black_box([n; 64]);
    overflow(n + 1) + held[(n % 64) as usize]
}
