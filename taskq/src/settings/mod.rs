//! Settings: from `taskq.toml`, overridden by `TASKQ_*` variables, overridden by code and flags.
//!
//! * [`Settings`] is the struct that everything else reads; every value remembers where it came from ([`Origin`]).
//! * `keys` is the table of single values: the name, the form and the text of each. A setting is added there.
//! * `file` finds and reads `taskq.toml`, with its tables of queues and schedules; `load` puts the layers together.
//! * `secret_file` reads secrets from files of their own, which variables such as `TASKQ_BROKER_URL_FILE` name.
//! * `exposure` warns of files that more users may use than is right.
//! * [`Settings::report`] lists every value for people, without passwords.

mod exposure;
mod file;
mod keys;
mod load;
pub(crate) mod nearest;
mod origin;
mod report;
mod secret_file;
#[cfg(all(test, feature = "toml"))]
mod tests;
mod values;

pub(crate) use self::keys::{duration_text, given_shown, serializer_text};
pub use self::load::FILE_NAME;
pub use self::origin::{ConfigError, Origin};
pub use self::report::SettingReport;
pub use self::values::{QueueSettings, Settings};
pub use crate::access::FileMode;
pub use crate::codec::Serializer;
pub use crate::tls::TlsOptions;
