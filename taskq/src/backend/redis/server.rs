//! A report on the server for its operator.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{FromRedisValue, Pipeline, Value};

use super::connection::{Connection, Repeat};
use super::refusal::failed;
use super::{identity, keys};
use crate::backend::BackendError;
use crate::message::TaskId;

/// Product and version, then one line for each surprising thing in the configuration.
pub(super) async fn info(connection: &Connection) -> Result<Vec<String>, BackendError> {
    let mut commands = Pipeline::new();
    commands.cmd("INFO").cmd("CONFIG").arg("GET").arg("save");
    // The channel of no task: nobody listens.
    commands.cmd("PUBLISH").arg(keys::result(&TaskId::new())).arg("").cmd("ACL").arg("WHOAMI");
    let answers = connection.send(Arc::new(commands), Repeat::Safe).await;
    let mut answers = answers.map_err(failed(|| "the question for the server's version".to_owned()))?.into_iter();
    let mut answer = || answers.next().unwrap_or(Value::Nil);
    // Hosted servers forbid one or both commands. That is worth a line, and no reason to fail.
    let info = answer().extract_error().ok().and_then(|info| String::from_redis_value(info).ok());
    let save = answer().extract_error().ok().and_then(|save| HashMap::from_redis_value(save).ok());
    let may_publish = answer().extract_error().is_ok();
    let user = answer().extract_error().ok().and_then(|user| String::from_redis_value(user).ok());
    let mut lines = lines(info.as_deref(), save.as_ref());
    lines.extend((!may_publish).then(|| cannot_publish(user.as_deref().unwrap_or("NAME"))));
    Ok(lines)
}

/// The line about a user that lacks the right to publish, which Redis 7 gives to no new user by itself.
fn cannot_publish(user: &str) -> String {
    format!(
        "this user may not publish to the channels of results, so those who wait for a result are not told when it comes; \
         grant it: ACL SETUSER {user} &{} +publish",
        keys::CHANNELS
    )
}

/// The lines of the report. `info` is the answer to `INFO`, `config` that to `CONFIG GET save`; `None` if it was
/// refused.
fn lines(info: Option<&str>, config: Option<&HashMap<String, String>>) -> Vec<String> {
    let Some(info) = info else {
        return vec![
            "Redis of an unknown version".to_owned(),
            "INFO is forbidden here: whether results are evicted or survive a restart is not known".to_owned(),
        ];
    };
    let facts = identity::facts(info);
    let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
    let mut lines = vec![identity::product(&facts)];
    let policy = fact("maxmemory_policy");
    if !policy.is_empty() && policy != "noeviction" {
        let limit = match fact("maxmemory") {
            "" | "0" => " as soon as maxmemory is set".to_owned(),
            limit => format!(" when {limit} bytes are in use"),
        };
        lines.push(format!(
            "maxmemory-policy is {policy}: results and leases may be evicted{limit}; set it to noeviction"
        ));
    }
    if fact("role") == "slave" {
        lines.push("this is a replica: writes fail; name the primary".to_owned());
    }
    let append_only = fact("aof_enabled") == "1";
    match config.map(|config| config.get("save").is_some_and(|rules| !rules.is_empty())) {
        _ if append_only => {}
        Some(true) => {
            lines.push("snapshots only (no appendonly): a crash loses what came after the last one".to_owned());
        }
        Some(false) => lines.push(
            "neither appendonly nor snapshots are on: results, leases and schedules do not survive a restart"
                .to_owned(),
        ),
        None => lines.push("CONFIG is forbidden here: whether results survive a restart is not known".to_owned()),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(save: &str) -> HashMap<String, String> {
        HashMap::from([("save".to_owned(), save.to_owned())])
    }

    #[test]
    fn what_may_surprise_is_said() {
        let durable =
            "redis_version:7.0.15\r\nrole:master\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
        assert_eq!(lines(Some(durable), Some(&config(""))), ["Redis 7.0.15"]);
        for (info, config, line) in [
            ("maxmemory_policy:allkeys-lru\r\nmaxmemory:1000\r\n", Some(config("")), "evicted when 1000 bytes"),
            ("maxmemory_policy:volatile-ttl\r\nmaxmemory:0\r\n", Some(config("")), "evicted as soon as"),
            ("role:slave\r\n", Some(config("")), "a replica"),
            ("aof_enabled:0\r\n", Some(config("")), "neither appendonly nor snapshots"),
            ("aof_enabled:0\r\n", Some(config("3600 1")), "snapshots only"),
            ("aof_enabled:0\r\n", None, "CONFIG is forbidden"),
        ] {
            let lines = lines(Some(info), config.as_ref());
            assert!(lines[1..].iter().any(|said| said.contains(line)), "{lines:?}");
        }
        assert_eq!(lines(Some("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n"), None)[0], "Valkey 8.0.1");
        assert!(lines(None, None)[1].contains("INFO is forbidden"));
    }
}
