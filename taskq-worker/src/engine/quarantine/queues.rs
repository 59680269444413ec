//! The names of quarantine queues, and whether a task can go there.

use taskq::broker::{QUARANTINE_SUFFIX, QueueSpec};

use super::super::supervision::Role;

/// The quarantine queue for tasks of `queue`.
pub(crate) fn quarantine_queue(queue: &str) -> String {
    format!("{queue}{QUARANTINE_SUFFIX}")
}

/// The queue whose tasks wait in the quarantine queue `queue`; `None` if that is no quarantine queue.
fn origin_of(queue: &str) -> Option<&str> {
    queue.strip_suffix(QUARANTINE_SUFFIX)
}

/// The queue that a delivery from `queue` belongs to in truth; `None` if that is the queue itself.
///
/// A message in quarantine names it in a header, which may also come from a stranger. So it is believed only where it
/// fits the quarantine queue that the message was taken from: a message cannot choose the queue that a worker sends it
/// on to. Without a header the name of the quarantine queue tells, but only to the process for suspects: another worker
/// of such a queue was told by a person to consume from it.
pub(crate) fn true_queue(queue: &str, header: Option<&str>, role: Role) -> Option<String> {
    let fits = |origin: &&str| QueueSpec::check_named(origin).is_ok() && quarantine_queue(origin) == queue;
    let by_name = || origin_of(queue).filter(|_| role.is_quarantine());
    header.filter(fits).or_else(by_name).map(str::to_owned)
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
    fn a_header_names_the_queue_only_where_it_fits() {
        for (queue, header, role, expected) in [
            ("mail", None, Role::Ordinary, None),
            ("mail.quarantine", Some("mail"), Role::Ordinary, Some("mail")),
            ("mail.quarantine", Some("mail"), Role::Quarantine, Some("mail")),
            ("mail.quarantine", None, Role::Quarantine, Some("mail")),
            ("mail.quarantine", None, Role::Ordinary, None),
            // What a stranger may write.
            ("mail", Some("payroll"), Role::Ordinary, None),
            ("mail", Some("mail"), Role::Ordinary, None),
            ("mail.quarantine", Some("payroll"), Role::Ordinary, None),
            ("mail.quarantine", Some("payroll"), Role::Quarantine, Some("mail")),
            ("amq.x.quarantine", Some("amq.x"), Role::Ordinary, None),
            ("taskq.dead.quarantine", Some("taskq.dead"), Role::Ordinary, None),
        ] {
            assert_eq!(true_queue(queue, header, role).as_deref(), expected, "{queue} {header:?} {role:?}");
        }
    }

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
