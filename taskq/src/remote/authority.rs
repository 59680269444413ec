//! The authority of remote control over a worker: everybody who may write to the broker can send a command.

use std::fmt;
use std::str::FromStr;

/// The commands that change nothing that matters to tasks.
const READING: [&str; 17] = [
    "ping",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "registered",
    "stats",
    "active_queues",
    "conf",
    "report",
    "query_task",
    "clock",
    "hello",
    "memsample",
    "enable_events",
    "disable_events",
    "heartbeat",
];

/// The commands that change something, and are carried out.
const CHANGING: [&str; 2] = ["revoke", "terminate"];

/// The commands of Celery's workers that taskq's do not know yet.
const UNKNOWN_YET: [&str; 10] = [
    "shutdown",
    "revoke_by_stamped_headers",
    "rate_limit",
    "time_limit",
    "pool_grow",
    "pool_shrink",
    "pool_restart",
    "autoscale",
    "add_consumer",
    "cancel_consumer",
];

/// The commands that change something and are allowed where nothing else is said.
const ALLOWED_BY_DEFAULT: [&str; 2] = ["revoke", "terminate"];

/// The extent of remote control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RemoteControl {
    /// Nothing is answered, and nothing is done. Revocations are found in Kv when a worker begins.
    Off,
    /// Questions are answered, and of the commands that change something those are carried out that are allowed by
    /// name.
    #[default]
    Read,
    /// Every command is carried out.
    Full,
}

/// The rule by which a worker decides about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    extent: RemoteControl,
    allowed: Vec<String>,
}

/// The decision about a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// Do it.
    Allowed,
    /// Say nothing: remote control is off.
    Silent,
    /// Refuse it, for this reason.
    Refused(String),
}

impl RemoteControl {
    /// The name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Read => "read",
            Self::Full => "full",
        }
    }
}

impl FromStr for RemoteControl {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Off, Self::Read, Self::Full].into_iter().find(|extent| extent.as_str() == name).ok_or(())
    }
}

impl fmt::Display for RemoteControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Authority {
    /// The rule of these settings.
    pub fn new(extent: RemoteControl, allowed: Vec<String>) -> Self {
        Self { extent, allowed }
    }

    /// The commands that change something and are allowed where nothing else is said.
    pub fn allowed_by_default() -> Vec<String> {
        ALLOWED_BY_DEFAULT.map(str::to_owned).into()
    }

    /// Returns whether a command of this name can be allowed.
    pub fn is_changing(command: &str) -> bool {
        CHANGING.contains(&command)
    }

    /// Decides about a command.
    pub fn rule(&self, command: &str) -> Ruling {
        let is_allowed = self.extent == RemoteControl::Full || self.allowed.iter().any(|allowed| allowed == command);
        if self.extent == RemoteControl::Off {
            Ruling::Silent
        } else if READING.contains(&command) || (CHANGING.contains(&command) && is_allowed) {
            Ruling::Allowed
        } else if CHANGING.contains(&command) {
            Ruling::Refused(format!(
                "{command} is not allowed here; allow it by `remote_commands` or `remote_control = \"full\"`"
            ))
        } else if UNKNOWN_YET.contains(&command) {
            Ruling::Refused(format!("taskq's workers do not know {command} yet"))
        } else {
            // As Celery's workers say it.
            Ruling::Refused(format!("KeyError('{}')", command.escape_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_depends_on_the_settings() {
        let refused = |ruling: &Ruling| matches!(ruling, Ruling::Refused(_));
        for (extent, allowed, ping, revoke) in [
            (RemoteControl::Off, vec!["revoke"], Ruling::Silent, Ruling::Silent),
            (RemoteControl::Read, vec![], Ruling::Allowed, Ruling::Refused(String::new())),
            (RemoteControl::Read, vec!["terminate"], Ruling::Allowed, Ruling::Refused(String::new())),
            (RemoteControl::Read, vec!["revoke", "terminate"], Ruling::Allowed, Ruling::Allowed),
            (RemoteControl::Full, vec![], Ruling::Allowed, Ruling::Allowed),
        ] {
            let authority = Authority::new(extent, allowed.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(authority.rule("ping"), ping, "{extent}");
            let ruling = authority.rule("revoke");
            assert!(ruling == revoke || (refused(&ruling) && refused(&revoke)), "{extent} {allowed:?}");
        }
        let authority = Authority::new(RemoteControl::Full, Vec::new());
        assert_eq!(authority.rule("nonsense'"), Ruling::Refused("KeyError('nonsense\\'')".to_owned()));
        assert!(matches!(authority.rule("autoscale"), Ruling::Refused(why) if why.contains("do not know autoscale")));
    }
}
