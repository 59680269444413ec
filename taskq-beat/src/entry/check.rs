//! Validation of entries against the tasks of a program.

use taskq::definition::{ArgumentError, Registry};
use taskq::internal::nearest;

use super::entry::Entry;
use super::mistake::Mistake;
use super::options::{Origin, Overlap};

/// Checks that the program has the task of an entry, and that the task accepts the arguments. They are decoded as a
/// worker would decode them; nothing is run.
pub fn check(entry: &Entry, registry: &Registry) -> Result<(), Mistake> {
    if entry.foreign {
        return Ok(());
    }
    let text = match registry.get(&entry.task) {
        None => unknown(&entry.task, registry),
        Some(definition) => {
            let Err(error) = definition.check_arguments(&entry.args, &entry.kwargs) else { return Ok(()) };
            let remedy = match (&entry.origin, &error) {
                (Origin::Task(_), ArgumentError::Missing { .. }) => {
                    "; beat sends a task that is scheduled by its attribute without arguments: make the parameter an \
                     `Option`, or schedule the task in `taskq.toml`, with `args`"
                }
                _ => "; correct `args` or `kwargs`",
            };
            format!("{error}{remedy}")
        }
    };
    Err(Mistake { place: entry.origin.place(&entry.name), text })
}

/// Checks that results are kept if an entry has `overlap = "skip"`, since only its result tells whether the previous
/// run has finished.
pub fn check_overlap(entry: &Entry, keeps_results: bool) -> Result<(), Mistake> {
    if entry.overlap != Overlap::Skip || keeps_results {
        return Ok(());
    }
    let text = "`overlap = \"skip\"` has to know whether the previous run has finished, and no results are kept; set \
                TASKQ_RESULT_URL=redis://host:6379/0, or leave `overlap` out";
    Err(Mistake { place: entry.origin.place(&entry.name), text: text.to_owned() })
}

fn unknown(task: &str, registry: &Registry) -> String {
    let remedy = match nearest(task, registry.iter().map(|task| task.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "this program has none at all".to_owned(),
    };
    format!("there is no task `{task}` in this program; {remedy} For a task of another program write `foreign = true`")
}
