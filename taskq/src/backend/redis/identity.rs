//! The server behind a connection, by its own account: which one it is, and whether taskq can use it. Pure.

use std::collections::HashMap;

use super::refusal::DialError;

/// The part of a server in replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplicationRole {
    Primary,
    Replica,
    /// The server does not say.
    Unknown,
}

/// A server, by its answer to `INFO`. A server that forbids the question is of an unknown kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerIdentity {
    /// The product with its version.
    pub(super) product: String,
    pub(super) role: ReplicationRole,
    /// The process of the server.
    run_id: Option<String>,
    /// The history of its data: another one begins when a replica is promoted.
    history: Option<String>,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Single,
    Cluster,
    Sentinel,
}

impl ServerIdentity {
    /// Reads sections of an answer to `INFO`; an empty text if it was refused.
    pub(super) fn of(info: &str) -> Self {
        let facts = facts(info);
        let fact = |name: &str| facts.get(name).map(|fact| (*fact).to_owned());
        let mode = match facts.get("redis_mode").or(facts.get("server_mode")).copied() {
            Some("sentinel") => Mode::Sentinel,
            Some("cluster") => Mode::Cluster,
            _ if facts.get("cluster_enabled") == Some(&"1") => Mode::Cluster,
            _ => Mode::Single,
        };
        let role = match facts.get("role").copied() {
            Some("master") => ReplicationRole::Primary,
            Some("slave") => ReplicationRole::Replica,
            _ => ReplicationRole::Unknown,
        };
        let (run_id, history) = (fact("run_id"), fact("master_replid"));
        Self { product: product(&facts), role, run_id, history, mode }
    }

    /// Whether the data is certainly that of the other server: everything that was written there is here.
    pub(super) fn has_data_of(&self, other: &Self) -> bool {
        self.run_id.is_some() && (&self.run_id, &self.history) == (&other.run_id, &other.history)
    }

    /// The change of a server that is still connected, by its account of its replication now: whether it is another
    /// one than it was.
    pub(super) fn has_turned(&self, replication: &str) -> bool {
        let now = Self::of(replication);
        let is_demoted = self.role == ReplicationRole::Primary && now.role == ReplicationRole::Replica;
        is_demoted || (self.role == ReplicationRole::Primary && now.history.is_some() && now.history != self.history)
    }

    /// The reason why taskq cannot use this server. `is_primary_wanted`: a replica would not do.
    pub(super) fn refusal(&self, is_primary_wanted: bool) -> Option<DialError> {
        let product = &self.product;
        match self.mode {
            Mode::Cluster => Some(DialError::Unfit(format!(
                "it is a cluster ({product}), which is not supported: one operation touches keys of several shards; name \
                 a single server, or a primary with replicas by its Sentinels: redis+sentinel://h1,h2,h3/NAME/0"
            ))),
            Mode::Sentinel => Some(DialError::Unfit(format!(
                "it is a Sentinel ({product}), which stores nothing; write redis+sentinel://h1,h2,h3/NAME/0 with the name \
                 of the primary"
            ))),
            Mode::Single if is_primary_wanted && self.role == ReplicationRole::Replica => Some(DialError::Nowhere(
                format!("it is a replica now ({product}); the address has to lead to the new primary"),
            )),
            Mode::Single => None,
        }
    }
}

/// The facts in an answer to `INFO`.
pub(super) fn facts(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

/// The product with its version.
pub(super) fn product(facts: &HashMap<&str, &str>) -> String {
    match (facts.get("valkey_version"), facts.get("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "Redis of an unknown version".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(run_id: &str, history: &str) -> String {
        format!("redis_version:7.0.15\r\nrun_id:{run_id}\r\nrole:master\r\nmaster_replid:{history}\r\n")
    }

    #[test]
    fn another_server_is_recognized() {
        let one = ServerIdentity::of(&primary("a", "1"));
        assert!(one.has_data_of(&one));
        for other in [primary("b", "1"), primary("a", "2"), String::new()] {
            let other = ServerIdentity::of(&other);
            assert!(!other.has_data_of(&one), "{other:?}");
        }
        let unknown = ServerIdentity::of("");
        assert!(!unknown.has_data_of(&unknown), "in doubt it is another one");
    }

    #[test]
    fn a_server_that_turns_is_noticed() {
        let one = ServerIdentity::of(&primary("a", "1"));
        for (now, expected) in [
            ("role:master\r\nmaster_replid:1\r\n", false),
            ("role:slave\r\nmaster_replid:1\r\n", true),
            ("role:master\r\nmaster_replid:2\r\n", true),
            ("", false),
        ] {
            assert_eq!(one.has_turned(now), expected, "{now}");
        }
        let replica = ServerIdentity::of("role:slave\r\nmaster_replid:1\r\n");
        assert!(!replica.has_turned("role:slave\r\nmaster_replid:2\r\n"), "it was a replica when it was connected");
    }

    #[test]
    fn servers_that_cannot_be_used_are_refused_with_the_remedy() {
        for (info, is_primary_wanted, told) in [
            ("redis_version:8.0.2\r\nredis_mode:cluster\r\n", false, "it is a cluster (Redis 8.0.2)"),
            ("valkey_version:9.1.2\r\ncluster_enabled:1\r\n", false, "it is a cluster (Valkey 9.1.2)"),
            ("redis_version:7.0.15\r\nredis_mode:sentinel\r\n", false, "write redis+sentinel://"),
            ("redis_version:7.0.15\r\nrole:slave\r\n", true, "it is a replica now"),
        ] {
            let refusal = ServerIdentity::of(info).refusal(is_primary_wanted).expect("it cannot be used").to_string();
            assert!(refusal.contains(told), "{refusal}");
        }
        for info in ["", "redis_version:7.0.15\r\nrole:slave\r\n", "redis_version:7.0.15\r\nrole:master\r\n"] {
            assert!(ServerIdentity::of(info).refusal(false).is_none(), "{info}");
        }
    }
}
