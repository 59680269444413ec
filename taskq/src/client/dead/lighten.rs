//! Messages whose headers do not fit, made light enough to be carried on. Pure.
//!
//! A dead message always finds its way: anybody may have written it, and one that could not be published would be
//! waited for without end.

use super::letter::{ERROR, HEADERS as LETTER};
use crate::Error;
use crate::broker::PublishError;
use crate::message::{HeaderValue, WireMessage};

/// The prefix of taskq's own headers.
const OWN: &str = "taskq-";

/// The headers without which a message is no longer the same task; all of taskq's own are kept as well.
const KEPT: [&str; 15] = [
    "argsrepr",
    "eta",
    "expires",
    "group",
    "group_index",
    "id",
    "ignore_result",
    "kwargsrepr",
    "lang",
    "origin",
    "parent_id",
    "retries",
    "root_id",
    "task",
    "timelimit",
];

/// The headers that a dead message keeps in any case, beside its letter.
const LAST: [&str; 2] = ["id", "task"];

/// The number of removed headers that a letter names.
const NAMED_MAX: usize = 10;

/// The number of characters to which a text that is kept in any case is cut.
const CUT_TO: usize = 500;

/// Makes a message light enough whose publishing failed with `error`: removes the largest headers that its sender has
/// added for itself, and says so in the letter of a dead message. Returns the names of the removed headers. There are
/// none if the headers are not the reason, or if none is left to remove.
pub fn lightened(message: &mut WireMessage, error: &Error) -> Vec<String> {
    match error {
        Error::Publish(PublishError::HeadersTooLarge { size, limit, .. }) => {
            without_largest(message, size - limit, |name| KEPT.contains(&name) || name.starts_with(OWN))
        }
        _ => Vec::new(),
    }
}

/// Makes a dead message light enough that [`lightened`] does not help: nothing is kept but its body, its letter, its id
/// and its task, whose texts are cut. It cannot be put back as the task that it was, and is in the dead set. Returns
/// the names of the headers that were removed or cut; there are none if that was done already, or if `error` may pass.
pub fn bared(message: &mut WireMessage, error: &Error) -> Vec<String> {
    if !error.is_permanent() {
        return Vec::new();
    }
    let mut changed = without_largest(message, usize::MAX, |name| LAST.contains(&name) || LETTER.contains(&name));
    let long = |(name, value): (&str, &HeaderValue)| {
        let text = value.as_str()?;
        let (end, _) = text.char_indices().nth(CUT_TO)?;
        Some((name.to_owned(), text[..end].to_owned()))
    };
    let cut: Vec<(String, String)> = message.headers.iter().filter_map(long).collect();
    for (name, text) in cut {
        message.headers.set(name.clone(), text);
        changed.push(name);
    }
    changed
}

/// Removes headers that are not kept, until at least `excess` bytes are gone.
fn without_largest(message: &mut WireMessage, excess: usize, is_kept: impl Fn(&str) -> bool) -> Vec<String> {
    let mut removable: Vec<(usize, String)> = message
        .headers
        .iter()
        .filter(|(name, _)| !is_kept(name))
        .map(|(name, value)| (name.len() + value.to_string().len(), name.to_owned()))
        .collect();
    removable.sort_unstable_by(|one, other| other.cmp(one));
    let mut gone = 0;
    let mut removed = Vec::new();
    for (size, name) in removable {
        if gone >= excess {
            break;
        }
        message.headers.remove(&name);
        gone += size;
        removed.push(name);
    }
    if !removed.is_empty()
        && let Some(error) = message.headers.text(ERROR)
    {
        let more = removed.len().checked_sub(NAMED_MAX + 1).map(|more| format!("and {} more", more + 1));
        let names: Vec<String> = removed.iter().take(NAMED_MAX).cloned().chain(more).collect();
        let names = names.join(", ");
        let error = format!("{error} (headers too large to be kept with the dead message, and removed: {names})");
        message.headers.set(ERROR, error);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn the_largest_headers_of_senders_go_first_and_no_more_than_needed() {
        let headers = Headers::from_iter([
            ("task", "x".repeat(600)),
            ("small", "x".repeat(10)),
            ("baggage", "x".repeat(200)),
            ("taskq-generation", "x".repeat(300)),
            ("stamps", "x".repeat(100)),
            (ERROR, "none left".to_owned()),
        ]);
        let mut message = WireMessage { headers, ..WireMessage::default() };
        let too_large = |size, limit| Error::Publish(PublishError::HeadersTooLarge { queue: "q".into(), size, limit });
        assert_eq!(lightened(&mut message, &too_large(1250, 1000)), ["baggage", "stamps"]);
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["task", "small", "taskq-generation", ERROR]);
        let error = message.headers.text(ERROR).expect("it stays");
        assert!(error.starts_with("none left (") && error.ends_with("removed: baggage, stamps)"), "{error}");
        assert_eq!(lightened(&mut message, &too_large(1250, 1000)), ["small"]);
        assert!(lightened(&mut message, &too_large(1250, 1000)).is_empty(), "what makes the task stays");
        // Unless nothing else helps.
        let passing = Error::Publish(PublishError::Nacked { queue: "q".into() });
        assert!(bared(&mut message, &passing).is_empty());
        assert_eq!(bared(&mut message, &too_large(1250, 1000)), ["taskq-generation", "task"]);
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["task", ERROR]);
        assert_eq!(message.headers.text("task").map(str::len), Some(CUT_TO));
        assert!(bared(&mut message, &too_large(1250, 1000)).is_empty());
    }
}
