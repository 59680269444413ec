//! Entries against the tasks of a program.

use taskq::definition::{ArgumentError, Registry};
use taskq::settings::nearest;

use super::{Entry, Mistake, Origin, Overlap};

/// Fails if the program has no task of the name that an entry gives, or one that does not take its arguments. They are decoded
/// as a worker would do it; nothing is run.
pub fn check(entry: &Entry, registry: &Registry) -> Result<(), Mistake> {
    if entry.foreign {
        return Ok(());
    }
    let text = match registry.get(&entry.task) {
        None => unknown(&entry.task, registry),
        Some(definition) => {
            let Err(error) = definition.check_arguments(&entry.args, &entry.kwargs) else { return Ok(()) };
            let mend = match (&entry.origin, &error) {
                (Origin::Task(_), ArgumentError::Missing { .. }) => {
                    "; beat sends a task that is scheduled by its attribute without arguments: make the parameter an \
                     `Option`, or schedule the task in `taskq.toml`, with `args`"
                }
                _ => "; mend `args` or `kwargs`",
            };
            format!("{error}{mend}")
        }
    };
    Err(Mistake { place: entry.origin.place(&entry.name), text })
}

/// Fails if an entry asks for something that cannot be known, whether the run before is over, because results are kept nowhere.
pub fn check_overlap(entry: &Entry, keeps_results: bool) -> Result<(), Mistake> {
    if entry.overlap != Overlap::Skip || keeps_results {
        return Ok(());
    }
    let text = "`overlap = \"skip\"` has to know whether the run before is over, and results are kept nowhere; set \
                TASKQ_RESULT_URL=redis://host:6379/0, or leave `overlap` out";
    Err(Mistake { place: entry.origin.place(&entry.name), text: text.to_owned() })
}

fn unknown(task: &str, registry: &Registry) -> String {
    let mend = match nearest(task, registry.iter().map(|task| task.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "this program has none at all".to_owned(),
    };
    format!("there is no task `{task}` in this program; {mend} For a task of another program write `foreign = true`")
}
