//! The limit on repeated lines of taskq, as a layer of the log.
//!
//! Lines of the program and of its tasks are not limited, nor are those of the supervisor, which has limits of its own
//! on whatever it repeats.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use taskq::internal::shown::{Cut, NAME_MAX, TEXT_MAX, cut};
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::bounds::{PLACE, is_of_taskq};
use super::flood::{Flood, PERIOD, Unwritten};

/// The targets of lines that are not limited, as beginnings.
const UNLIMITED: [&str; 2] = [SUMS, "taskq_worker::supervise"];

/// The target of the lines that sum up.
const SUMS: &str = "taskq::log";

/// The fields that say what a line is about; the first that a line has makes its cause.
const ABOUT: [&str; 4] = ["task", "entry", "queue", PLACE];

/// A line that was not written.
#[derive(Debug)]
struct Example {
    level: Level,
    message: String,
}

/// The lines so far, and whether somebody waits for the end of their periods.
#[derive(Debug, Default)]
struct RepeatedLines {
    flood: Flood<Identifier, Example>,
    is_watched: bool,
}

/// The lines of this process.
static LINES: OnceLock<Mutex<RepeatedLines>> = OnceLock::new();

/// Whether lines are limited at all.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// The layer that lets a line through or counts it.
pub(super) struct FloodGuard;

impl<S: Subscriber> Layer<S> for FloodGuard {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let about = event.metadata();
        if !IS_ON.load(Ordering::Relaxed) || !is_limited(about) {
            return true;
        }
        let mut cause = Cause::default();
        event.record(&mut cause);
        let now = Instant::now();
        let mut lines = lock();
        let over = lines.flood.over(now);
        let example = || Example { level: *about.level(), message: message_of(event) };
        let is_written = lines.flood.admits(about.callsite(), cause.about(), now, example);
        if !is_written && !lines.is_watched {
            // Where no thread can be started, the next line finds that the period is over.
            lines.is_watched = std::thread::Builder::new().name("taskq-log".to_owned()).spawn(watch).is_ok();
        }
        drop(lines);
        sum_up(&over);
        is_written
    }
}

/// Switches the limit on or off.
pub(super) fn limit(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// Sums up what was not written so far, since the process ends.
pub(crate) fn sum_up_all() {
    // Bound first: the lock is free again when the lines are written.
    let all = LINES.get().map(|_| lock().flood.all(Instant::now())).unwrap_or_default();
    sum_up(&all);
}

/// Sums up each period at its end, until all lines have been written or summed up.
fn watch() {
    loop {
        let now = Instant::now();
        let mut lines = lock();
        let over = lines.flood.over(now);
        let next = lines.flood.next();
        lines.is_watched = next.is_some();
        drop(lines);
        sum_up(&over);
        let Some(next) = next else { return };
        std::thread::sleep(next.saturating_duration_since(now));
    }
}

fn lock() -> MutexGuard<'static, RepeatedLines> {
    LINES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_limited(about: &Metadata<'_>) -> bool {
    is_of_taskq(about.target()) && !UNLIMITED.iter().any(|target| about.target().starts_with(target))
}

fn sum_up(unwritten: &[Unwritten<Example>]) {
    for Unwritten { count, within, about, example: Example { level, message } } in unwritten {
        let about = Some(about.as_str()).filter(|about| !about.is_empty());
        let within = in_words(*within);
        // The level of a line is part of the code.
        match *level {
            Level::ERROR => tracing::error!(target: SUMS, count, about, "{count} more in the last {within}: {message}"),
            Level::WARN => tracing::warn!(target: SUMS, count, about, "{count} more in the last {within}: {message}"),
            _ => tracing::info!(target: SUMS, count, about, "{count} more in the last {within}: {message}"),
        }
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds.abs_diff(PERIOD.as_secs()) <= 1 => "minute".to_owned(),
        seconds => format!("{seconds} s"),
    }
}

fn message_of(event: &Event<'_>) -> String {
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

/// The value of each field of [`ABOUT`] that a line has.
#[derive(Default)]
struct Cause([Option<String>; ABOUT.len()]);

impl Cause {
    fn about(&self) -> &str {
        self.0.iter().flatten().next().map_or("", String::as_str)
    }
}

impl Visit for Cause {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(at) = ABOUT.iter().position(|name| *name == field.name()) {
            self.0[at] = Some(cut(value, NAME_MAX).0.to_owned());
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = Cut::text(&format_args!("{value:?}"), TEXT_MAX / 4);
        }
    }
}
