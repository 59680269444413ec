//! A warning for two programs that take each other for one scheduler because they share a store: the one that does not
//! lead finds that its entries are not sent.

use std::time::Duration;

use tokio::time::Instant;

use crate::entry::Entry;
use crate::store::Store;

/// The time between two looks of a beat that does not lead. The first look comes after as long, so that a new version
/// has had time to become the leader.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A leader that may belong to another program.
#[derive(Debug)]
pub(super) struct ForeignLeader {
    looked: Instant,
    /// The entries that the leader does not send, as logged last.
    logged: Vec<String>,
}

impl Default for ForeignLeader {
    fn default() -> Self {
        Self { looked: Instant::now(), logged: Vec::new() }
    }
}

impl ForeignLeader {
    /// Checks, if it is time, whether the leader sends these entries, and logs once those that it does not send.
    pub(super) async fn look(&mut self, store: &Store, own: impl Iterator<Item = &Entry>) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        // The candidate for the lease logs that the store is away.
        let Ok((known, _)) = store.known().await else { return };
        let lacking: Vec<String> = known.lacks(own).into_iter().map(str::to_owned).collect();
        if !lacking.is_empty() && lacking != self.logged {
            tracing::warn!(
                entries = lacking.join(", "),
                "beat: the current leader does not know these entries, so they are not being sent; every beat that \
                 shares this store needs the same entries (give separate schedules their own `beat_group`)"
            );
        }
        self.logged = lacking;
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
    async fn entries_that_the_leader_does_not_send_are_named_once_it_has_had_time() {
        let store = Store::new(MemoryBackend::shared(&format!("memory:{}", taskq::TaskId::new())));
        let at = chrono::DateTime::UNIX_EPOCH;
        let entry = |name: &str| Entry::new(name, "t", Schedule::once(at), Origin::RunTime);
        let known = Known::default().with([entry("shared"), entry("theirs")].iter(), at);
        store.save_known(None, &known).await.expect("memory");
        let own = [entry("shared"), entry("ours")];
        let mut leader = ForeignLeader::default();
        leader.look(&store, own.iter()).await;
        assert!(leader.logged.is_empty(), "it is too early");
        tokio::time::advance(LOOK_EVERY).await;
        leader.look(&store, own.iter()).await;
        assert_eq!(leader.logged, ["ours"]);
        tokio::time::advance(LOOK_EVERY).await;
        leader.look(&store, own[..1].iter()).await;
        assert!(leader.logged.is_empty());
    }
}
