//! The origin of a setting, and the error of one that cannot be used.

use std::fmt;
use std::path::PathBuf;

/// The place that a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The default: no other place names it.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// The content of a file that an environment variable names, as `TASKQ_BROKER_URL_FILE` does.
    FileOfVariable {
        /// The name of the variable.
        variable: String,
        /// The path of the file.
        path: PathBuf,
    },
    /// The program, or a flag of its command line.
    Code,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {text}")]
pub struct ConfigError {
    origin: Origin,
    text: String,
}

impl ConfigError {
    pub(crate) fn new(origin: Origin, text: String) -> Self {
        Self { origin, text }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::FileOfVariable { variable, path } => write!(f, "{variable}={}", path.display()),
            Self::Code => f.write_str("command line or program"),
        }
    }
}
