//! Losses on their way into the store, and losses that are taken over.

use super::*;
use crate::recorder::flight::Flight;

/// A state folder of a test's own.
struct StateFolder(PathBuf);

impl StateFolder {
    fn new(what: &str) -> Self {
        let path = std::env::temp_dir().join(format!("taskq-losses-{what}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("the temporary folder can be written");
        Self(path)
    }

    fn supervisor(&self, node: &str) -> LossStore {
        LossStore::open(Some(&self.0), node, "here").expect("the folder can be used")
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn loss(id: &str) -> Loss {
    let flight = Flight {
        id: id.to_owned(),
        task: "shop.add".to_owned(),
        generation: 0,
        attempt: 0,
        in_quarantine: false,
        since_ms: 0,
        culprit: false,
    };
    let recording = Recording { pid: 7, began_ms: 1, flights: vec![flight] };
    Loss { recording, death: Death { code: None, signal: Some(9), host: "here".to_owned(), at_ms: 2 } }
}

fn given(orders: &[SupervisorMessage]) -> Vec<String> {
    let id = |order: &SupervisorMessage| match order {
        SupervisorMessage::StoreLoss { loss, .. } => loss.recording.flights[0].id.clone(),
        other => panic!("{other:?}"),
    };
    orders.iter().map(id).collect()
}

#[test]
fn any_name_of_a_node_is_good_for_a_folder() {
    let here = StateFolder::new("names");
    for node in ["a/b@here", "tab\t@here", &"n".repeat(4000), &"ü".repeat(4000)] {
        here.supervisor(node).close();
    }
}

#[test]
fn a_loss_waits_until_a_living_child_has_written_it_down() {
    let here = StateFolder::new("waits");
    let mut losses = here.supervisor("taskq@here");
    losses.wait("1.loss".to_owned(), loss("a"));
    assert_eq!(given(&losses.give(2)), ["a"]);
    assert_eq!(losses.give(3), [], "it has been given");
    losses.take_back(2);
    assert_eq!(given(&losses.give(3)), ["a"], "the first one died");
    let file = losses.folder.join("1.loss");
    assert!(file.exists());
    losses.stored("../lock");
    losses.stored("1.loss");
    assert!(!file.exists());
    losses.take_back(3);
    assert_eq!(losses.give(4), []);
    losses.close();
    assert_eq!(entries(&here.0), [] as [PathBuf; 0]);
}

#[test]
fn the_dead_are_inherited_from_and_the_living_are_not() {
    let here = StateFolder::new("adopts");
    let [mut dead, mut elsewhere, mut living] = ["dead", "else/where", "living"].map(|node| here.supervisor(node));
    for (losses, kept_in, id) in
        [(&mut dead, "redis://one", "a"), (&mut elsewhere, "redis://two", "b"), (&mut living, "redis://one", "c")]
    {
        losses.adopt(kept_in);
        losses.wait("1.loss".to_owned(), loss(id));
    }
    // A child of the dead one lives a little longer.
    let child = state_dir::hold(&dead.flight(1)).expect("it is there");
    let folders = [&dead, &elsewhere].map(|losses| losses.folder.clone());
    drop((dead, elsewhere));
    let mut early = here.supervisor("early");
    early.adopt("redis://one");
    assert_eq!(early.give(1), []);
    drop(child);
    let mut next = here.supervisor("next");
    next.adopt("redis://one");
    assert_eq!(given(&next.give(1)), ["a"]);
    assert_eq!(folders.map(|folder| folder.exists()), [false, true]);
    assert_eq!(given(&living.give(1)), ["c"]);
}

#[test]
fn only_so_many_are_given_at_a_time() {
    let here = StateFolder::new("many");
    let mut losses = here.supervisor("taskq@here");
    for number in 0..=GIVEN_MAX {
        losses.wait(format!("{number}.loss"), loss("a"));
    }
    assert_eq!(losses.give(1).len(), GIVEN_MAX);
    assert_eq!(losses.give(1).len(), 0);
    losses.stored("0.loss");
    assert_eq!(losses.give(1).len(), 1);
}
