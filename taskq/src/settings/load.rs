//! The layers of settings: file, environment, code.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::keys::KEYS;
use super::{ConfigError, Origin, Settings};
use crate::access;

/// The name of the file that is looked for upward from the working directory.
pub const FILE_NAME: &str = "taskq.toml";

impl Settings {
    /// Loads the settings of `file`, or of the `taskq.toml` found upward from the working directory if there is one,
    /// overridden by the environment.
    ///
    /// An unknown key or a value that cannot be used is an error that names it.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        if let Some(path) = file.map(Path::to_owned).or_else(find) {
            let origin = Origin::File(path.clone());
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError::new(origin.clone(), format!("cannot be read: {error}")))?;
            settings.apply_toml(&text, &origin)?;
            settings.file = Some(path);
        }
        settings.apply_variables(std::env::vars_os())?;
        if let Some(warning) = settings.exposure_of_file() {
            access::warn_once(&warning);
        }
        Ok(settings)
    }

    /// Takes the values of the variables that are named after keys, such as `TASKQ_BROKER_URL`.
    ///
    /// Others that begin with `TASKQ_` belong to the command line and to tests, and are left alone. So are the
    /// variables of other programs, which may hold anything.
    pub(super) fn apply_variables(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(variable) = variable.to_str() else { continue };
            let key = variable.strip_prefix("TASKQ_").map(str::to_ascii_lowercase);
            let Some(known) = key.and_then(|key| KEYS.iter().find(|known| known.name == key)) else { continue };
            let origin = Origin::Variable(variable.to_owned());
            match value.to_str() {
                Some(value) => self.set(known.name, value, origin)?,
                // The value is not repeated: it may hold a password.
                None => {
                    let text = format!("`{}` takes {}, and this is not Unicode (UTF-8)", known.name, known.takes);
                    return Err(ConfigError::new(origin, text));
                }
            }
        }
        Ok(())
    }
}

/// Finds the file of that name in the working directory or the nearest folder above it.
fn find() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| path.is_file())
}
