//! Values that cannot be read: of a newer version, or no values at all.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use taskq::backend::SharedKv;
use taskq::backend::memory::MemoryBackend;
use taskq::internal::fault::full_message;

use super::{Event, EventKind, Facts, Handled, Pause, Store};
use crate::entry::{Entry, Origin};
use crate::schedule::Schedule;

const NEWER: &str = r#"{"v":2,"anything":"else"}"#;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a moment")
}

fn entry(name: &str) -> Entry {
    let every = Schedule::every(Duration::from_secs(1), DateTime::UNIX_EPOCH).expect("it is long enough");
    Entry::new(name, "t", every, Origin::RunTime)
}

/// A store with values under some keys.
async fn store(values: &[(&str, &'static str)]) -> Store {
    let kv: SharedKv = MemoryBackend::shared(&format!("memory:{}", taskq::TaskId::new()));
    for (key, value) in values {
        kv.put(key, Bytes::from_static(value.as_bytes()), None).await.expect("memory");
    }
    Store::new(kv)
}

async fn value(store: &Store, key: &str) -> Option<Bytes> {
    store.kv().get(key).await.expect("memory")
}

#[tokio::test]
async fn a_pause_that_cannot_be_read_counts_as_paused() {
    for text in [NEWER, "{}", "not JSON"] {
        let store = store(&[("beat/pause/a", text)]).await;
        let overrides = store.overrides().await.expect("memory");
        assert_eq!(overrides.len(), 1, "{text}");
        assert!(overrides[0].0 == "a" && overrides[0].1.is_paused(), "{text}: {overrides:?}");
        assert!(store.override_of("a").await.expect("memory").is_paused(), "{text}");
    }
}

#[tokio::test]
async fn a_pause_of_a_newer_version_is_an_error_to_change_and_a_broken_one_can_be_resumed() {
    let newer = store(&[("beat/pause/a", NEWER)]).await;
    for is_on in [true, false] {
        let error = full_message(&newer.pause("a", is_on, at(7)).await.expect_err("it is newer"));
        assert!(error.contains("\"beat/pause/a\"") && error.contains("update this program"), "{error}");
    }
    assert_eq!(value(&newer, "beat/pause/a").await.expect("it is kept"), NEWER);

    let broken = store(&[("beat/pause/a", "{}")]).await;
    assert!(!broken.pause("a", true, at(7)).await.expect("memory"), "it is paused already");
    assert!(broken.pause("a", false, at(7)).await.expect("memory"));
    let pause = broken.override_of("a").await.expect("memory").pause;
    assert_eq!(pause, Some(Pause { is_on: false, at: at(7), from: None }));
}

#[tokio::test]
async fn a_history_of_a_newer_version_is_kept_and_a_broken_one_is_replaced() {
    let event =
        Event { at: at(1), by: "b".to_owned(), kind: EventKind::Fired { slot: at(1), late_ms: 0, again: false } };
    let newer = store(&[("beat/history/a", NEWER)]).await;
    let error = newer.append("a", std::slice::from_ref(&event)).await.expect_err("it is newer");
    assert!(full_message(&error).contains("\"beat/history/a\""), "{error}");
    assert_eq!(value(&newer, "beat/history/a").await.expect("it is kept"), NEWER);

    let broken = store(&[("beat/history/a", "[{}]")]).await;
    broken.append("a", std::slice::from_ref(&event)).await.expect("memory");
    assert_eq!(broken.history_of("a").await.expect("memory").events(), [event]);
}

#[tokio::test]
async fn an_added_entry_of_a_newer_version_is_left_out_and_kept() {
    let store = store(&[("beat/entry/a", NEWER)]).await;
    assert!(store.add(&entry("b"), at(1)).await.expect("memory"));
    let names: Vec<String> = store.overrides().await.expect("memory").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b"]);
    assert_eq!(store.override_of("a").await.expect("memory").added, None);
    assert!(!store.add(&entry("a"), at(1)).await.expect("memory"), "there is one");
    assert_eq!(value(&store, "beat/entry/a").await.expect("it is kept"), NEWER);
}

#[tokio::test]
async fn newer_state_is_an_error_and_is_not_replaced() {
    let keys = ["beat/facts/a", "beat/known", "beat/changes"];
    let store = store(&keys.map(|key| (key, NEWER))).await;
    let errors = [
        store.facts_of("a").await.map(drop).expect_err("it is newer"),
        store.known().await.map(drop).expect_err("it is newer"),
        store.changes().await.map(drop).expect_err("it is newer"),
    ];
    for (key, error) in keys.iter().zip(errors) {
        let error = full_message(&error);
        assert!(error.contains(&format!("{key:?}")) && error.contains("update this program"), "{error}");
    }
    assert!(store.facts().await.expect("memory").is_empty(), "they are left out");
    let saved = store.save_facts("a", None, &Facts::new(Handled::since(at(1)))).await.expect("memory");
    assert_eq!(saved, super::Saved::Other(Some(Bytes::from_static(NEWER.as_bytes()))));
    for key in keys {
        assert_eq!(value(&store, key).await.expect("it is kept"), NEWER);
    }
}
