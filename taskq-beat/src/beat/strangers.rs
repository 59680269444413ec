//! Two programs that take each other for one scheduler, since they share a store: the one that does not lead finds that its
//! entries are not sent, and says so.

use std::time::Duration;

use tokio::time::Instant;

use crate::entry::Entry;
use crate::store::Store;

/// How often who does not lead looks. The first time is after as long, in which a new version may have come to lead.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What is known of a leader that is not of this program.
#[derive(Debug)]
pub(super) struct Strangers {
    looked: Instant,
    /// The entries that it does not send, as was said last.
    said: Vec<String>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { looked: Instant::now(), said: Vec::new() }
    }
}

impl Strangers {
    /// Looks, if it is time, at which of these entries the leader does not send; says which, once.
    pub(super) async fn look(&mut self, store: &Store, own: impl Iterator<Item = &Entry>) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        // That the store is away is said by who asks for the lease.
        let Ok((known, _)) = store.known().await else { return };
        let lacking: Vec<String> = known.lacks(own).into_iter().map(str::to_owned).collect();
        if !lacking.is_empty() && lacking != self.said {
            tracing::warn!(
                entries = lacking.join(", "),
                "beat: the beat that leads has not these entries, and nobody sends them. All beats that share a store need the same; for programs with entries of their own, set `beat_group` in each to a name of its own"
            );
        }
        self.said = lacking;
    }
}

#[cfg(test)]
mod tests {
    use taskq::backend::memory::MemoryBackend;

    use super::*;
    use crate::entry::Origin;
    use crate::schedule::Schedule;
    use crate::store::Known;

    #[tokio::test(start_paused = true)]
    async fn what_the_leader_does_not_send_is_named_once_it_has_had_time() {
        let store = Store::new(MemoryBackend::shared(&format!("memory:{}", taskq::TaskId::new())));
        let at = chrono::DateTime::UNIX_EPOCH;
        let entry = |name: &str| Entry::new(name, "t", Schedule::once(at), Origin::RunTime);
        let known = Known::default().with([entry("shared"), entry("theirs")].iter(), at);
        store.save_known(None, &known).await.expect("memory");
        let own = [entry("shared"), entry("ours")];
        let mut strangers = Strangers::default();
        strangers.look(&store, own.iter()).await;
        assert!(strangers.said.is_empty(), "it is too early");
        tokio::time::advance(LOOK_EVERY).await;
        strangers.look(&store, own.iter()).await;
        assert_eq!(strangers.said, ["ours"]);
        tokio::time::advance(LOOK_EVERY).await;
        strangers.look(&store, own[..1].iter()).await;
        assert!(strangers.said.is_empty());
    }
}
