//! Certificates of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Folder;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/certificates");

/// A CA, with certificates for a server on this machine and for a client. Deleted when dropped, if they were made here.
#[derive(Debug)]
pub struct Certificates {
    path: PathBuf,
    _folder: Option<Folder>,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Panics
    ///
    /// If openssl is not installed.
    pub fn new() -> Self {
        let folder = Folder::new("certificates");
        let certificates = Self { path: folder.path().to_owned(), _folder: Some(folder) };
        certificates.issue("server", 90);
        certificates.issue("client", 90);
        certificates
    }

    /// The certificates in a folder.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, _folder: None }
    }

    /// Makes a certificate for this machine, with its key, that is valid for so many days; with none it expires
    /// within a second.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn issue(&self, name: &str, days: u32) {
        let mut script = Command::new(SCRIPT);
        let output = script.arg(&self.path).args([name, &days.to_string()]).output();
        let output = output.expect("the script is there");
        assert!(output.status.success(), "{script:?}: {output:?}");
    }

    /// The path of one of the files, for example `ca.pem`, `client.pem` or `client.key`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }

    /// That path as text.
    ///
    /// # Panics
    ///
    /// If the temporary folder is no text.
    pub fn text(&self, file: &str) -> String {
        self.path(file).to_str().expect("it is text").to_owned()
    }

    /// Takes the files of others in place of its own.
    ///
    /// # Panics
    ///
    /// If they cannot be written.
    pub fn replace_by(&self, others: &Self) {
        for file in ["ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"] {
            copy(&others.path(file), &self.path(file));
        }
    }

    /// The parameters of a URL of Redis that name the CA and the client's certificate.
    pub fn of_redis(&self) -> String {
        let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|file| self.text(file));
        format!("ssl_ca_certs={ca}&ssl_certfile={certificate}&ssl_keyfile={key}")
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("the temporary folder can be written");
}
