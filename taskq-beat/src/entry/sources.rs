//! The entries of a program: from the attributes of its tasks, and from its settings.

use std::collections::BTreeMap;

use chrono::DateTime;
use taskq::definition::{self, Definition, Registry};
use taskq::settings::{Origin as SettingsOrigin, Settings};

use super::check::{check, check_overlap};
use super::entry::Entry;
use super::mistake::{Mistake, Mistakes};
use super::options::Origin;
use super::read::check_name;
use crate::schedule::{Schedule, ScheduleError};

/// Returns all entries of a program by name: those from the attributes of its tasks, named after the tasks, and those
/// of `[schedule.NAME]` in the settings.
///
/// Each is checked against `registry`, unless that is empty: a program without tasks sends the tasks of others. The
/// error holds all mistakes of all entries.
pub fn collect(registry: &Registry, settings: &Settings) -> Result<BTreeMap<String, Entry>, Mistakes> {
    let mut entries = BTreeMap::new();
    let mut mistakes = Vec::new();
    let origin = match settings.schedule_origin() {
        SettingsOrigin::File(path) => Origin::File(path),
        _ => Origin::RunTime,
    };
    let of_tasks = registry.iter().filter_map(of_task);
    let of_settings =
        settings.schedule.iter().map(|(name, description)| Entry::read(name, description, origin.clone()));
    for entry in of_tasks.chain(of_settings) {
        match entry {
            Ok(entry) => {
                if !registry.is_empty() {
                    mistakes.extend(check(&entry, registry).err());
                }
                mistakes.extend(check_overlap(&entry, settings.result_url().is_some()).err());
                mistakes.extend(add(&mut entries, entry).err());
            }
            Err(found) => mistakes.extend(found),
        }
    }
    Mistakes::none(mistakes).map(|()| entries)
}

/// Adds an entry to others. An entry of the same name is a mistake.
pub fn add(entries: &mut BTreeMap<String, Entry>, entry: Entry) -> Result<(), Mistake> {
    if let Some(earlier) = entries.get(&entry.name) {
        let text = format!(
            "there is an entry of that name already, in {}; give one of them another name, or remove it",
            earlier.origin.place(&earlier.name)
        );
        return Err(Mistake { place: entry.origin.place(&entry.name), text });
    }
    entries.insert(entry.name.clone(), entry);
    Ok(())
}

/// Returns the entry that the attribute of a task describes, if it has a schedule.
fn of_task(definition: &'static Definition) -> Option<Result<Entry, Mistakes>> {
    let schedule = definition.options.schedule.as_ref()?;
    let origin = Origin::Task(definition.location.to_string());
    let place = origin.place(definition.name);
    let mut mistakes = Vec::new();
    let mut mistake = |text| mistakes.push(Mistake { place: place.clone(), text });
    check_name(definition.name, &mut mistake);
    let schedule = schedule_of(schedule).map_err(|error| mistake(error.to_string())).ok();
    let read = schedule.map(|schedule| Entry::new(definition.name, definition.name, schedule, origin));
    Some(Mistakes::none(mistakes).map(|()| read.expect("what is missing is a mistake")))
}

fn schedule_of(schedule: &definition::ScheduleAttribute) -> Result<Schedule, ScheduleError> {
    match schedule {
        definition::ScheduleAttribute::Cron { line, tz } => Schedule::cron(line, tz),
        definition::ScheduleAttribute::Every(period) => Schedule::every(*period, DateTime::UNIX_EPOCH),
    }
}
