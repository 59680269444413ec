//! Files that more users may use than is right: the settings file, and the files of embedded brokers and stores.

use std::path::Path;

use super::keys::{KEYS, SettingKey};
use super::{Origin, Settings};
use crate::access::{self, Permissions};
use crate::redact;

impl Settings {
    /// Warns of each file that other users may change, or read although it holds secrets, with the remedy.
    #[doc(hidden)]
    pub fn exposure(&self) -> Vec<String> {
        let files = self.exposure_of_file().into_iter().chain(self.exposure_of_secret_files());
        files.chain(self.exposure_of_stores()).collect()
    }

    /// Warns of the settings file.
    pub(super) fn exposure_of_file(&self) -> Option<String> {
        let path = self.file.as_deref()?;
        judge(path, Permissions::of(path)?, access::user(), self.file_holds_a_secret())
    }

    fn file_holds_a_secret(&self) -> bool {
        let is_from_file = |key: &&SettingKey| matches!(self.origins.get(key.name), Some(Origin::File(_)));
        let url = |key: &SettingKey| match key.name {
            "broker_url" => self.broker_url.clone(),
            "result_url" => self.result_url.clone(),
            _ => self.beat_store.clone(),
        };
        let holds_a_password = |url: String| url.contains("://") && redact::url(&url) != url;
        KEYS.iter()
            .filter(is_from_file)
            .any(|key| key.is_secret() || (key.is_url() && url(key).is_some_and(holds_a_password)))
    }

    /// Warns of the files of secrets that others may change. Containers mount them for every user of theirs to read, so
    /// that is no fault.
    pub(super) fn exposure_of_secret_files(&self) -> Vec<String> {
        let paths = self.origins.values().filter_map(|origin| match origin {
            Origin::FileOfVariable { path, .. } => Some(path),
            _ => None,
        });
        paths.filter_map(|path| judge_secret(path, Permissions::of(path)?)).collect()
    }

    #[cfg(feature = "sqlite")]
    fn exposure_of_stores(&self) -> Vec<String> {
        use crate::sqlite::{Location, exposure};
        let urls = [Some(self.broker_url()), self.result_url(), self.beat_store()].into_iter().flatten();
        let mut paths: Vec<_> =
            urls.filter_map(|url| Location::parse(url).ok()).map(|location| location.path).collect();
        paths.sort();
        paths.dedup();
        paths.iter().flat_map(|path| exposure(path, self.file_mode)).collect()
    }

    #[cfg(not(feature = "sqlite"))]
    fn exposure_of_stores(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Warns of a secret's file with these permissions.
fn judge_secret(path: &Path, permissions: Permissions) -> Option<String> {
    permissions.exceed(0o664).then(|| {
        format!(
            "other users may change the secret in {}; run `chmod o-w {}`",
            permissions.describe(path),
            path.display()
        )
    })
}

/// Warns of a settings file with these permissions. Many are in version control, and for all to read; that is harm only
/// where there is a secret to read.
fn judge(path: &Path, permissions: Permissions, user: Option<u32>, holds_a_secret: bool) -> Option<String> {
    /// All that others may do, and what they may do where there is no secret.
    const SECRET: u32 = 0o640;
    const PLAIN: u32 = 0o664;
    let (about, name) = (permissions.describe(path), path.display());
    if permissions.are_of_another(user) {
        return Some(format!(
            "{about}: another user says where this process sends its tasks; run `chown` on {name}, or name a file of this \
             user or root with --config"
        ));
    }
    if permissions.exceed(PLAIN) {
        return Some(format!("other users may change the settings in {about}; run `chmod o-w {name}`"));
    }
    let is_told = holds_a_secret && permissions.exceed(SECRET);
    is_told.then(|| format!("other users may read the password in {about}; run `chmod 640 {name}`"))
}

#[cfg(all(test, unix, feature = "toml"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_settings_file_is_for_others_to_read_unless_it_holds_a_secret() {
        let path = std::env::temp_dir().join(format!("taskq-exposure-{}.toml", uuid::Uuid::now_v7()));
        let secret = "broker_url = \"amqp://shop:secret@rabbit\"";
        let plain = "broker_url = \"amqp://rabbit\"\nresult_url = \"none\"";
        for (text, mode, expected) in [
            (plain, 0o644, None),
            (plain, 0o664, None),
            (plain, 0o666, Some("chmod o-w")),
            (secret, 0o640, None),
            (secret, 0o600, None),
            (secret, 0o644, Some("may read the password")),
            (secret, 0o622, Some("chmod o-w")),
        ] {
            fs::write(&path, text).expect("the temporary folder can be written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            let settings = Settings::load(Some(&path)).expect("it can be read");
            let warning = settings.exposure_of_file();
            assert_eq!(warning.is_some(), expected.is_some(), "{text} {mode:o}: {warning:?}");
            let words = expected.into_iter().chain([path.to_str().expect("it is text")]);
            if let Some(warning) = &warning {
                assert!(
                    words.into_iter().all(|word| warning.contains(word)) && !warning.contains("secret@"),
                    "{warning}"
                );
            }
            let permissions = Permissions::of(&path).expect("it is there");
            let user = access::user().map(|user| user + 1);
            let foreign =
                judge(&path, permissions, user, false).is_some_and(|warning| warning.contains("another user"));
            assert_eq!(foreign, access::user() != Some(0), "root's file is nobody else's");
        }
        drop(fs::remove_file(path));
    }
}
