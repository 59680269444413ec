//! Certificates of a test's own, made by the commands that the guide on TLS shows.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Folder;

/// A CA, with certificates for a server on this machine and for a client. Deleted when dropped.
#[derive(Debug)]
pub struct Certificates {
    folder: Folder,
}

impl Certificates {
    /// Makes them.
    ///
    /// # Panics
    ///
    /// If openssl is not installed.
    pub fn new() -> Self {
        let certificates = Self { folder: Folder::new("certificates") };
        certificates.openssl("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 90 -keyout ca.key -out ca.pem -subj /CN=test-ca");
        certificates.issue("server", 90);
        certificates.issue("client", 90);
        certificates
    }

    /// Makes a certificate for this machine, with its key, that is valid for so many days; with none it expires
    /// within a second.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn issue(&self, name: &str, days: u32) {
        self.openssl(&format!(
            "req -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout {name}.key -out {name}.csr -subj /CN={name} -addext \
             subjectAltName=DNS:localhost,IP:127.0.0.1"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -copy_extensions copy -out {name}.pem"
        ));
    }

    /// The path of one of the files, for example `ca.pem`, `client.pem` or `client.key`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
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

    /// The parameters of a URL of RabbitMQ that name the CA and the client's certificate.
    pub fn of_rabbit(&self) -> String {
        let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|file| self.text(file));
        format!("cacertfile={ca}&certfile={certificate}&keyfile={key}")
    }

    /// The parameters of a URL of Redis that name the CA and the client's certificate.
    pub fn of_redis(&self) -> String {
        let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|file| self.text(file));
        format!("ssl_ca_certs={ca}&ssl_certfile={certificate}&ssl_keyfile={key}")
    }

    /// The lines of `rabbitmq.conf` for TLS on this port, with a certificate required of clients.
    pub fn rabbit_conf(&self, port: u16) -> String {
        let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|file| self.text(file));
        format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nnum_acceptors.ssl = 2\nssl_options.cacertfile = {ca}\n\
             ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\nssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = true\n"
        )
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_whitespace()).current_dir(self.folder.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
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
