//! Messages whose headers do not fit, made light enough to be carried on. Pure.

use super::letter::ERROR;
use crate::Error;
use crate::broker::PublishError;
use crate::message::WireMessage;

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

/// Makes a message light enough whose publishing failed with `error`: removes the largest headers that its sender has
/// added for itself, and says so in the letter of a dead message. Returns the names of the removed headers. There are
/// none if the headers are not the reason, or if none is left to remove.
pub fn lightened(message: &mut WireMessage, error: &Error) -> Vec<String> {
    match error {
        Error::Publish(PublishError::HeadersTooLarge { size, limit, .. }) => without_largest(message, size - limit),
        _ => Vec::new(),
    }
}

/// Removes headers until at least `excess` bytes are gone.
fn without_largest(message: &mut WireMessage, excess: usize) -> Vec<String> {
    let is_kept = |name: &str| KEPT.contains(&name) || name.starts_with("taskq-");
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
        let names = removed.join(", ");
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
            ("task", "x".repeat(300)),
            ("small", "x".repeat(10)),
            ("baggage", "x".repeat(200)),
            ("taskq-generation", "x".repeat(300)),
            ("stamps", "x".repeat(100)),
            (ERROR, "none left".to_owned()),
        ]);
        let mut message = WireMessage { headers, ..WireMessage::default() };
        assert_eq!(without_largest(&mut message, 250), ["baggage", "stamps"]);
        let names: Vec<&str> = message.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["task", "small", "taskq-generation", ERROR]);
        let error = message.headers.text(ERROR).expect("it stays");
        assert!(error.starts_with("none left (") && error.ends_with("removed: baggage, stamps)"), "{error}");
        assert_eq!(without_largest(&mut message, 250), ["small"]);
        assert!(without_largest(&mut message, 250).is_empty(), "what makes the task stays");
    }
}
