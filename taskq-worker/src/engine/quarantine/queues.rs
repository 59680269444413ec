//! The names of quarantine queues, and whether a task can go there.

use taskq::broker::{QUARANTINE_SUFFIX, QueueSpec};

use super::super::supervision::Role;

/// The quarantine queue for tasks of `queue`.
pub(crate) fn quarantine_queue(queue: &str) -> String {
    format!("{queue}{QUARANTINE_SUFFIX}")
}

/// The queue whose tasks wait in the quarantine queue `queue`; `None` if that is no quarantine queue.
pub(crate) fn origin_of(queue: &str) -> Option<&str> {
    queue.strip_suffix(QUARANTINE_SUFFIX)
}

/// The quarantine queue to which a suspect from `queue` is moved. An error is the reason for which it runs here after
/// all. `from_quarantine`: the message came from a quarantine queue already.
pub(crate) fn place(queue: &str, role: Role, from_quarantine: bool) -> Result<String, String> {
    match role {
        Role::Quarantine => return Err("this process is the quarantine".to_owned()),
        // There it might wait for ever: no supervised worker may ever come.
        Role::Unsupervised => return Err("no supervisor could start a process for it".to_owned()),
        Role::Ordinary => {}
    }
    if from_quarantine {
        // This worker was told to consume from a quarantine queue; sent there again the task would go round for ever.
        return Err("this worker consumes from the quarantine queue itself".to_owned());
    }
    let queue = quarantine_queue(queue);
    match QueueSpec::check_name(&queue) {
        Ok(()) => Ok(queue),
        Err(error) => Err(format!("its queue has no quarantine: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_go_where_a_process_will_come_for_them() {
        let long = "q".repeat(250);
        for (queue, role, from_quarantine, expected) in [
            ("mail", Role::Ordinary, false, Ok("mail.quarantine")),
            ("mail", Role::Unsupervised, false, Err("no supervisor")),
            ("mail", Role::Quarantine, true, Err("is the quarantine")),
            ("mail", Role::Ordinary, true, Err("consumes from the quarantine queue itself")),
            (long.as_str(), Role::Ordinary, false, Err("has no quarantine")),
        ] {
            match (place(queue, role, from_quarantine), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{queue} {role:?}: {found:?} in place of {expected:?}"),
            }
        }
        assert_eq!(origin_of(&quarantine_queue("mail")), Some("mail"));
        assert_eq!(origin_of("mail"), None);
    }
}
