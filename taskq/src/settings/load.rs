//! The layers of settings: file, environment, code.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::keys::KEYS;
use super::{ConfigError, Origin, Settings, secret_file};
use crate::access;

/// The name of the file that is looked for upward from the working directory.
pub const FILE_NAME: &str = "taskq.toml";

impl Settings {
    /// Loads the settings of `file`, or of the `taskq.toml` found upward from the working directory if there is one,
    /// overridden by the environment: `TASKQ_BROKER_URL` and the like, and for secrets the files that
    /// `TASKQ_BROKER_URL_FILE` and the like name.
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
        for warning in settings.exposure_of_file().into_iter().chain(settings.exposure_of_secret_files()) {
            access::warn_once(&warning);
        }
        Ok(settings)
    }

    /// Takes the values of the variables that are named after keys, such as `TASKQ_BROKER_URL`, and for secrets of the
    /// files that variables such as `TASKQ_BROKER_URL_FILE` name.
    ///
    /// Others that begin with `TASKQ_` belong to the command line and to tests, and are left alone. So are the
    /// variables of other programs, which may hold anything.
    pub(super) fn apply_variables(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        let (mut given, mut files) = (BTreeMap::new(), Vec::new());
        for (variable, value) in variables {
            let Some(variable) = variable.to_str() else { continue };
            let Some(name) = variable.strip_prefix("TASKQ_").map(str::to_ascii_lowercase) else { continue };
            let key = |name: &str| KEYS.iter().find(|known| known.name == name);
            if let Some(known) = key(&name) {
                given.insert(known.name, (known, variable.to_owned(), value));
            } else if let Some(known) = name.strip_suffix("_file").and_then(key).filter(|known| known.holds_a_secret())
            {
                files.push((known, variable.to_owned(), PathBuf::from(value)));
            }
        }
        // An empty variable is one that a template left open.
        for (known, variable, path) in files.into_iter().filter(|(_, _, path)| !path.as_os_str().is_empty()) {
            if let Some((_, direct, _)) = given.remove(known.name).filter(|(_, _, value)| !value.is_empty()) {
                let text = format!("{direct} is set as well, and they may differ; remove one of the two");
                return Err(ConfigError::new(Origin::Variable(variable), text));
            }
            let text = secret_file::read(known.name, &variable, &path)?;
            self.set(known.name, &text, Origin::FileOfVariable { variable, path })?;
        }
        for (known, variable, value) in given.into_values() {
            let origin = Origin::Variable(variable);
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
