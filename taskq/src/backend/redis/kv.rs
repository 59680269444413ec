//! The Kv store in Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use redis::{Cmd, FromRedisValue, Pipeline, Value};

use super::backend::RedisBackend;
use super::connection::Repeat;
use super::journal::{FactWrite, Write};
use super::refusal::failed;
use super::{keys, scripts};
use crate::backend::kv::check_size;
use crate::backend::{BackendError, Kv, Put, ServerClock};
use crate::fault::BoxError;

/// The number of keys that the server examines in one step of a scan, and the number of values read by one command.
const SCAN_STEP: usize = 512;

impl Kv for RedisBackend {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>> {
        Box::pin(async move {
            let mut get = redis::cmd("GET");
            get.arg(keys::fact(key));
            let value = self.ask::<Option<Vec<u8>>>(get, Repeat::Safe).await;
            Ok(value.map_err(failed(|| format!("the reading of {key:?}")))?.map(Bytes::from))
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            check_size(key, &value, self.connection.document_max())?;
            let mut set = redis::cmd("SET");
            set.arg(keys::fact(key)).arg(&value[..]);
            if let Some(ttl_ms) = keys::ttl_ms(ttl) {
                set.arg("PX").arg(ttl_ms);
            }
            let number = self.connection.number();
            // A repetition could undo a change that another client made in between.
            self.ask::<()>(set, Repeat::Never).await.map_err(failed(|| format!("the writing of {key:?}")))?;
            self.note_fact(number, key, value, None, ttl);
            Ok(())
        })
    }

    fn compare_and_put<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move {
            check_size(key, &value, self.connection.document_max())?;
            let mut call = scripts::PUT_IF.call(&keys::fact(key));
            call.arg(&value[..]).arg(keys::ttl_ms(ttl).unwrap_or(0));
            if let Some(expected) = &expected {
                call.arg(&expected[..]);
            }
            let number = self.connection.number();
            let put = self.decide(call).await.map_err(failed(|| format!("the conditional writing of {key:?}")))?;
            if put == Put::Done {
                self.note_fact(number, key, value, expected, ttl);
            }
            Ok(put)
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expected: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move {
            let deleted = match &expected {
                None => {
                    let mut delete = redis::cmd("DEL");
                    delete.arg(keys::fact(key));
                    self.ask::<u64>(delete, Repeat::Never).await.map(|_| Put::Done)
                }
                Some(expected) => {
                    let mut call = scripts::DELETE_IF.call(&keys::fact(key));
                    call.arg(&expected[..]);
                    self.decide(call).await
                }
            };
            let deleted = deleted.map_err(failed(|| format!("the deletion of {key:?}")))?;
            if deleted == Put::Done {
                self.connection.journal().add(self.connection.number(), [Write::Deletion { key: keys::fact(key) }]);
            }
            Ok(deleted)
        })
    }

    /// Examines all keys of the database, in steps; the timeout applies to each step.
    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>> {
        Box::pin(async move { self.collect(prefix).await.map_err(failed(|| format!("the scan for {prefix:?}"))) })
    }

    fn server_clock(&self) -> Option<&dyn ServerClock> {
        Some(self)
    }
}

impl ServerClock for RedisBackend {
    fn time(&self) -> BoxFuture<'_, Result<DateTime<Utc>, BackendError>> {
        Box::pin(async move {
            let told = self.ask::<(i64, u32)>(redis::cmd("TIME"), Repeat::Safe).await;
            let failed = failed(|| "the question for the server's time".to_owned());
            let (seconds, micros) = told.map_err(failed)?;
            DateTime::from_timestamp(seconds, micros.saturating_mul(1000)).ok_or_else(|| BackendError::Nonsense {
                what: "the server's time".to_owned(),
                source: format!("{seconds} s and {micros} µs").into(),
            })
        })
    }
}

impl RedisBackend {
    /// Keeps a fact that was stored, for another server that may lack it.
    fn note_fact(&self, number: u64, key: &str, value: Bytes, expected: Option<Bytes>, ttl: Option<Duration>) {
        let fact = FactWrite { key: keys::fact(key), value, expected, ttl_ms: keys::ttl_ms(ttl) };
        self.connection.journal().add(number, [Write::Fact(fact)]);
    }

    /// Sends one command and returns its answer.
    async fn ask<T: FromRedisValue>(&self, command: Cmd, repeat: Repeat) -> Result<T, BoxError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        only_answer(self.connection.send(Arc::new(commands), repeat).await?)
    }

    /// Calls a script that compares, and returns its decision.
    async fn decide(&self, call: Cmd) -> Result<Put, BoxError> {
        let mut calls = Pipeline::with_capacity(1);
        calls.add_command(call);
        let answer = only_answer::<Vec<Value>>(self.connection.call(calls).await?)?;
        match <[Value; 2]>::try_from(answer) {
            Ok([_, there]) => Ok(Put::Refused(Option::<Vec<u8>>::from_redis_value(there)?.map(Bytes::from))),
            Err(_) => Ok(Put::Done),
        }
    }

    async fn collect(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, BoxError> {
        let pattern = keys::facts_pattern(prefix);
        // A scan may return a key more than once.
        let mut found = BTreeSet::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_STEP);
            let (next, keys) = self.ask::<(u64, Vec<Vec<u8>>)>(scan, Repeat::Safe).await?;
            // Our keys are text; any other key belongs to another program.
            found.extend(keys.into_iter().filter_map(|key| String::from_utf8(key).ok()));
            if next == 0 {
                break;
            }
            cursor = next;
        }
        let found = Vec::from_iter(found);
        let mut facts = Vec::with_capacity(found.len());
        for keys in found.chunks(SCAN_STEP) {
            let mut read = redis::cmd("MGET");
            read.arg(keys);
            let values = self.ask::<Vec<Option<Vec<u8>>>>(read, Repeat::Safe).await?;
            facts.extend(keys.iter().zip(values).filter_map(|(key, value)| {
                // A key without a value was deleted during the scan.
                Some((keys::fact_of(key)?.to_owned(), Bytes::from(value?)))
            }));
        }
        Ok(facts)
    }
}

fn only_answer<T: FromRedisValue>(mut answers: Vec<Value>) -> Result<T, BoxError> {
    let answer = answers.pop().ok_or("the server gave no answer")?;
    Ok(T::from_redis_value(answer.extract_error()?)?)
}
