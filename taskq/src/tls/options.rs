//! The files and names of TLS connections.

use std::path::PathBuf;

/// The options of TLS connections: files, which are read at each connect, and the server's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TlsOptions {
    /// The certificates of the CAs that may have signed the server's, in PEM form. The default are those that this
    /// system trusts.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, in PEM form, with those between it and its CA. By default there is none.
    pub certificate_file: Option<PathBuf>,
    /// The private key of the client's certificate, in PEM form, not encrypted.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must be for. The default is the host of the URL.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// Changes the options by `change`, and returns them.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
