//! The promises of every Kv store, one function per promise.
//!
//! Each function works on keys of its own, so all may run on one store. A broken promise is a panic that names it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep, timeout};

use super::{PATIENCE, keep};
use crate::backend::{KvExt, Put, SharedKv};
use crate::message::TaskId;

/// A TTL that is over soon.
const SHORT: Duration = Duration::from_millis(100);

/// A TTL that is not over while a promise is being checked.
const LONG: Duration = Duration::from_secs(3600);

/// The check of one promise.
pub type KvPromise = fn(SharedKv) -> BoxFuture<'static, ()>;

/// Returns the checks of all promises, by name.
pub fn promises() -> Vec<(&'static str, KvPromise)> {
    macro_rules! list {
        ($($name:ident),* $(,)?) => {
            vec![$((stringify!($name), (|kv| $name(kv).boxed()) as KvPromise)),*]
        };
    }
    list![
        what_is_put_is_there,
        values_are_any_bytes,
        keys_are_any_text,
        put_if_absent,
        put_if_equal,
        one_of_many_wins,
        no_count_is_lost,
        deleted_is_gone,
        deleted_if_equal,
        values_expire,
        a_put_sets_the_ttl_anew,
        expired_is_absent,
        a_scan_finds_the_prefix,
        a_scan_takes_the_prefix_literally,
        a_scan_finds_thousands,
        values_may_be_json,
    ]
}

/// Checks every promise, each on a store that `make` returns, one after the other.
pub async fn run_all<F>(make: impl Fn() -> F)
where
    F: Future<Output = SharedKv>,
{
    for (name, promise) in promises() {
        keep(name, promise(make().await)).await;
    }
}

/// A value can be read once it was put, and a later one replaces it.
pub async fn what_is_put_is_there(kv: SharedKv) {
    let key = fresh("put");
    assert_eq!(get(&kv, &key).await, None);
    for value in [&b"one"[..], b"two", b""] {
        put(&kv, &key, value, None).await;
        assert_eq!(get(&kv, &key).await.as_deref(), Some(value));
    }
}

/// Values are bytes, not text: all bytes, up to a megabyte, are stored and compared exactly.
pub async fn values_are_any_bytes(kv: SharedKv) {
    let key = fresh("bytes");
    let every: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    put(&kv, &key, &every, None).await;
    assert!(get(&kv, &key).await.is_some_and(|there| there == every));
    for value in [&b"\0"[..], b"\0\0", b"a\r\nb", b"1", b"01", b"\xff\xfe", b""] {
        put(&kv, &key, value, None).await;
        assert_eq!(swap(&kv, &key, Some(b"\0other"), b"x").await, Put::Refused(Some(Bytes::copy_from_slice(value))));
        assert_eq!(swap(&kv, &key, Some(value), value).await, Put::Done, "{value:?}");
        assert_eq!(get(&kv, &key).await.as_deref(), Some(value));
    }
}

/// Keys are any text.
pub async fn keys_are_any_text(kv: SharedKv) {
    let base = fresh("text");
    let keys = ["", " ", "a b", "*", "?[x]\\", "é\u{1f600}", "a:b/c{d}", "\r\n"].map(|end| format!("{base}{end}"));
    for key in &keys {
        put(&kv, key, key.as_bytes(), None).await;
    }
    for key in &keys {
        assert_eq!(get(&kv, key).await.as_deref(), Some(key.as_bytes()), "{key:?}");
    }
}

/// With no value expected, a value is put only if the key is absent.
pub async fn put_if_absent(kv: SharedKv) {
    let key = fresh("absent");
    assert_eq!(swap(&kv, &key, None, b"one").await, Put::Done);
    assert_eq!(swap(&kv, &key, None, b"two").await, Put::Refused(Some(Bytes::from_static(b"one"))));
    assert_eq!(get(&kv, &key).await.as_deref(), Some(&b"one"[..]));
    // Empty is not absent.
    put(&kv, &key, b"", None).await;
    assert_eq!(swap(&kv, &key, None, b"two").await, Put::Refused(Some(Bytes::new())));
}

/// With a value expected, a value is put only if exactly that value is stored.
pub async fn put_if_equal(kv: SharedKv) {
    let key = fresh("equal");
    assert_eq!(swap(&kv, &key, Some(b"one"), b"two").await, Put::Refused(None));
    assert_eq!(swap(&kv, &key, Some(b""), b"two").await, Put::Refused(None), "absent is not empty");
    assert_eq!(get(&kv, &key).await, None);
    put(&kv, &key, b"one", None).await;
    assert_eq!(swap(&kv, &key, Some(b"one"), b"two").await, Put::Done);
    assert_eq!(swap(&kv, &key, Some(b"one"), b"three").await, Put::Refused(Some(Bytes::from_static(b"two"))));
    assert_eq!(get(&kv, &key).await.as_deref(), Some(&b"two"[..]));
}

/// Of many writers that put an absent key at once, one wins, and all others see its value.
pub async fn one_of_many_wins(kv: SharedKv) {
    for _ in 0..10 {
        let key = fresh("race");
        let racers = (0..64).map(|number: u32| {
            let (kv, key) = (Arc::clone(&kv), key.clone());
            tokio::spawn(async move { (number, swap(&kv, &key, None, number.to_string().as_bytes()).await) })
        });
        let outcomes: Vec<(u32, Put)> =
            join_all(racers).await.into_iter().map(|racer| racer.expect("no racer panics")).collect();
        let winners: Vec<u32> =
            outcomes.iter().filter(|(_, put)| *put == Put::Done).map(|(number, _)| *number).collect();
        assert_eq!(winners.len(), 1, "{winners:?} won");
        let winner = Bytes::from(winners[0].to_string());
        assert!(
            outcomes.iter().all(|(_, put)| *put == Put::Done || *put == Put::Refused(Some(winner.clone()))),
            "the others saw something else than {winner:?}: {outcomes:?}"
        );
        assert_eq!(get(&kv, &key).await, Some(winner));
    }
}

/// Counting by compare-and-swap loses no step, however many writers count.
pub async fn no_count_is_lost(kv: SharedKv) {
    let key = fresh("count");
    put(&kv, &key, b"0", None).await;
    let counters = (0..8).map(|_| {
        let (kv, key) = (Arc::clone(&kv), key.clone());
        tokio::spawn(async move {
            for _ in 0..25 {
                let mut there = get(&kv, &key).await.expect("nobody deletes it");
                loop {
                    let next = (count(&there) + 1).to_string();
                    match swap(&kv, &key, Some(&there), next.as_bytes()).await {
                        Put::Done => break,
                        Put::Refused(now) => there = now.expect("nobody deletes it"),
                    }
                }
            }
        })
    });
    for counter in join_all(counters).await {
        counter.expect("no counter panics");
    }
    assert_eq!(count(&get(&kv, &key).await.expect("nobody deletes it")), 200);
}

/// A deleted key is as if it had never been; deleting an absent key is no error.
pub async fn deleted_is_gone(kv: SharedKv) {
    let key = fresh("delete");
    assert_eq!(kv.delete(&key, None).await.expect("the store works"), Put::Done);
    put(&kv, &key, b"one", None).await;
    assert_eq!(kv.delete(&key, None).await.expect("the store works"), Put::Done);
    assert_eq!(get(&kv, &key).await, None);
    assert_eq!(swap(&kv, &key, None, b"two").await, Put::Done);
}

/// With a value expected, a key is deleted only if exactly that value is stored.
pub async fn deleted_if_equal(kv: SharedKv) {
    let key = fresh("delete-equal");
    let expect = |value: &'static [u8]| Some(Bytes::from_static(value));
    assert_eq!(kv.delete(&key, expect(b"one")).await.expect("the store works"), Put::Refused(None));
    put(&kv, &key, b"two", None).await;
    assert_eq!(kv.delete(&key, expect(b"one")).await.expect("the store works"), Put::Refused(expect(b"two")));
    assert_eq!(get(&kv, &key).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(kv.delete(&key, expect(b"two")).await.expect("the store works"), Put::Done);
    assert_eq!(get(&kv, &key).await, None);
}

/// A value with a TTL expires when the TTL is over, and not before.
pub async fn values_expire(kv: SharedKv) {
    let (key, compared) = (fresh("expire"), fresh("expire-compared"));
    let start = Instant::now();
    put(&kv, &key, b"one", Some(Duration::from_secs(2))).await;
    let there = get(&kv, &key).await;
    // If the machine stalled in between, the value may have expired already.
    assert!(there.is_some() || start.elapsed() >= Duration::from_secs(2), "it went early");
    until_gone(&kv, &key).await;
    let put_short = kv.compare_and_put(&compared, None, Bytes::from_static(b"one"), Some(SHORT)).await;
    assert_eq!(put_short.expect("the store works"), Put::Done);
    until_gone(&kv, &compared).await;
}

/// The TTL is that of the last put: a longer one, a shorter one or none.
pub async fn a_put_sets_the_ttl_anew(kv: SharedKv) {
    let (longer, for_ever, renewed, shorter) = (fresh("longer"), fresh("ever"), fresh("renewed"), fresh("shorter"));
    put(&kv, &longer, b"one", Some(SHORT)).await;
    put(&kv, &longer, b"two", Some(LONG)).await;
    put(&kv, &for_ever, b"one", Some(SHORT)).await;
    put(&kv, &for_ever, b"two", None).await;
    put(&kv, &renewed, b"one", Some(Duration::from_secs(5))).await;
    // This is how a lease is renewed; a machine that stood still for five seconds has lost it.
    let renewal =
        kv.compare_and_put(&renewed, Some(Bytes::from_static(b"one")), Bytes::from_static(b"two"), Some(LONG));
    let was_renewed = renewal.await.expect("the store works") == Put::Done;
    put(&kv, &shorter, b"one", None).await;
    put(&kv, &shorter, b"two", Some(SHORT)).await;
    until_gone(&kv, &shorter).await;
    assert_eq!(get(&kv, &longer).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(get(&kv, &for_ever).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(get(&kv, &renewed).await.is_some(), was_renewed);
}

/// An expired value is absent for every question.
pub async fn expired_is_absent(kv: SharedKv) {
    let key = fresh("expired");
    put(&kv, &key, b"one", Some(SHORT)).await;
    until_gone(&kv, &key).await;
    assert_eq!(swap(&kv, &key, Some(b"one"), b"two").await, Put::Refused(None));
    let deleted = kv.delete(&key, Some(Bytes::from_static(b"one"))).await;
    assert_eq!(deleted.expect("the store works"), Put::Refused(None));
    assert!(scan(&kv, &key).await.is_empty());
    assert_eq!(swap(&kv, &key, None, b"two").await, Put::Done);
}

/// A scan returns all keys with the prefix, whole, with their values, each once, and no other.
pub async fn a_scan_finds_the_prefix(kv: SharedKv) {
    let prefix = fresh("scan");
    assert!(scan(&kv, &prefix).await.is_empty());
    let other = fresh("scan");
    put(&kv, &other, b"other", None).await;
    let mut expected = BTreeMap::new();
    for end in ["", "/a", "/b", "/b/c", "é"] {
        let key = format!("{prefix}{end}");
        put(&kv, &key, end.as_bytes(), None).await;
        expected.insert(key, Bytes::from_static(end.as_bytes()));
    }
    assert_eq!(scan(&kv, &prefix).await, expected);
    let below: Vec<String> = scan(&kv, &format!("{prefix}/b")).await.into_keys().collect();
    assert_eq!(below, [format!("{prefix}/b"), format!("{prefix}/b/c")]);
}

/// Characters with a special meaning in some stores' patterns are matched literally.
pub async fn a_scan_takes_the_prefix_literally(kv: SharedKv) {
    let base = fresh("literal");
    let ends = ["*", "?", "[a-z]", "[^a]", "\\", "\\*", "a", "b", "-", "^", "]", "%", "_", "%a"];
    for end in ends {
        put(&kv, &format!("{base}{end}"), b"", None).await;
    }
    for prefix in ends {
        let found: Vec<String> = scan(&kv, &format!("{base}{prefix}")).await.into_keys().collect();
        let mut expected: Vec<String> =
            ends.iter().filter(|end| end.starts_with(prefix)).map(|end| format!("{base}{end}")).collect();
        expected.sort();
        assert_eq!(found, expected, "{prefix:?}");
    }
}

/// A scan is complete, however many keys there are.
pub async fn a_scan_finds_thousands(kv: SharedKv) {
    let prefix = fresh("thousands");
    let keys: Vec<String> = (0..2000).map(|number| format!("{prefix}/{number:04}")).collect();
    for keys in keys.chunks(100) {
        join_all(keys.iter().map(|key| put(&kv, key, key.as_bytes(), Some(LONG)))).await;
    }
    let found: Vec<String> = scan(&kv, &prefix).await.into_keys().collect();
    assert_eq!(found, keys);
}

/// The conveniences for JSON work on every store.
pub async fn values_may_be_json(kv: SharedKv) {
    let key = fresh("json");
    assert_eq!(kv.get_json::<u32>(&key).await.expect("nothing is there"), None);
    assert_eq!(kv.put_json_if_absent(&key, &7_u32, None).await.expect("the store works"), None);
    assert_eq!(kv.put_json_if_absent(&key, &8_u32, None).await.expect("the store works"), Some(7));
    assert_eq!(kv.get_json::<u32>(&key).await.expect("it is a number"), Some(7));
    let error = kv.get_json::<String>(&key).await.expect_err("it is no text");
    assert!(error.to_string().contains(&key), "{error}");
}

fn fresh(promise: &str) -> String {
    format!("conformance/{promise}/{}", TaskId::new())
}

fn count(value: &[u8]) -> u32 {
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).expect("it is a count")
}

async fn get(kv: &SharedKv, key: &str) -> Option<Bytes> {
    kv.get(key).await.expect("the store works")
}

async fn put(kv: &SharedKv, key: &str, value: &[u8], ttl: Option<Duration>) {
    kv.put(key, Bytes::copy_from_slice(value), ttl).await.expect("the store works");
}

async fn swap(kv: &SharedKv, key: &str, expected: Option<&[u8]>, value: &[u8]) -> Put {
    let put = kv.compare_and_put(key, expected.map(Bytes::copy_from_slice), Bytes::copy_from_slice(value), None);
    put.await.expect("the store works")
}

async fn scan(kv: &SharedKv, prefix: &str) -> BTreeMap<String, Bytes> {
    let found = kv.scan(prefix).await.expect("the store works");
    let count = found.len();
    let keys: BTreeMap<String, Bytes> = found.into_iter().collect();
    assert_eq!(keys.len(), count, "a key was given twice");
    keys
}

async fn until_gone(kv: &SharedKv, key: &str) {
    let gone = async {
        while get(kv, key).await.is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("a value whose TTL is over goes");
}
