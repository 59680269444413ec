//! The files of TLS connections: certificates and keys in PEM form, as rustls wants them.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, RootCertStore};

use super::{TlsFault, TlsOptions};

/// Reads the certificates of the CAs that a server's may be signed by.
pub(super) fn roots(options: &TlsOptions) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        Some(path) => {
            for certificate in certificates("tls_ca_file", path)? {
                let added = roots.add(certificate);
                added.map_err(|error| {
                    fault("tls_ca_file", path, &format!("it holds no usable certificate ({error})"))
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            for certificate in found.certs {
                // A system has some that are too old to be understood; the others serve.
                drop(roots.add(certificate));
            }
            if roots.is_empty() {
                let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
                return Err(TlsFault(format!(
                    "the CAs that this system trusts cannot be read ({why}); install ca-certificates, or name a CA's file \
                     by `tls_ca_file`"
                )));
            }
        }
    }
    Ok(roots)
}

/// Reads the client's certificate and its key; `None` if none is named.
pub(super) fn client(options: &TlsOptions, provider: &CryptoProvider) -> Result<Option<Arc<CertifiedKey>>, TlsFault> {
    let (certificate, key) = match (&options.certificate_file, &options.key_file) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => {
            return Err(TlsFault("`tls_certificate_file` is set without `tls_key_file`; name both".to_owned()));
        }
        (None, Some(_)) => {
            return Err(TlsFault("`tls_key_file` is set without `tls_certificate_file`; name both".to_owned()));
        }
    };
    let chain = certificates("tls_certificate_file", certificate)?;
    let pair = CertifiedKey::from_der(chain, private_key(key)?, provider);
    pair.map(|pair| Some(Arc::new(pair))).map_err(|error| match error {
        Error::InconsistentKeys(_) => fault(
            "tls_key_file",
            key,
            &format!(
                "it is not the key of the certificate in {}; name the pair that belongs together",
                certificate.display()
            ),
        ),
        error => fault(
            "tls_key_file",
            key,
            &format!("this key cannot be used ({error}); make one: `openssl genpkey -algorithm ED25519`"),
        ),
    })
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let content = read(setting, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(fault(setting, path, "it holds no certificate; name a file with BEGIN CERTIFICATE (PEM)")),
        Err(error) => {
            Err(fault(setting, path, &format!("it is garbled ({error}); name a file with BEGIN CERTIFICATE (PEM)")))
        }
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFault> {
    let content = read("tls_key_file", path)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|_| {
        let is_encrypted = String::from_utf8_lossy(&content).contains("ENCRYPTED");
        fault(
            "tls_key_file",
            path,
            if is_encrypted {
                "the key is encrypted; decrypt it: `openssl pkey -in KEY -out PLAIN`"
            } else {
                "it holds no private key; name a file with BEGIN PRIVATE KEY (PEM)"
            },
        )
    })
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, TlsFault> {
    std::fs::read(path)
        .map_err(|error| fault(setting, path, &format!("cannot be read: {error}; name a file that this user may read")))
}

/// The fault of a file. The setting is named also where a parameter of the URL has taken its place.
fn fault(setting: &str, path: &Path, why: &str) -> TlsFault {
    TlsFault(format!("`{setting}` {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::crypto::ring;

    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = std::env::temp_dir().join(format!("taskq-tls-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("the folder can be written");
            path
        };
        let text = write("text", "secret, and no PEM");
        let garbled = write("garbled", "-----BEGIN CERTIFICATE-----\nsecret!\n-----END CERTIFICATE-----\n");
        let not_der = write("not-der", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
        let encrypted = write(
            "encrypted",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let absent = folder.join("absent");
        let of_ca =
            |path: &Path| roots(&TlsOptions { ca_file: Some(path.to_owned()), ..TlsOptions::default() }).map(drop);
        let of_client = |certificate: Option<&Path>, key: Option<&Path>| {
            let (certificate_file, key_file) = (certificate.map(Path::to_owned), key.map(Path::to_owned));
            let options = TlsOptions { certificate_file, key_file, ..TlsOptions::default() };
            client(&options, &ring::default_provider()).map(drop)
        };
        for (found, expected) in [
            (of_ca(&absent), "absent: cannot be read: No such file"),
            (of_ca(&text), "text: it holds no certificate"),
            (of_ca(&garbled), "garbled: it is garbled"),
            (of_ca(&not_der), "not-der: it holds no usable certificate"),
            (of_client(Some(&text), None), "without `tls_key_file`; name both"),
            (of_client(None, Some(&text)), "without `tls_certificate_file`; name both"),
            (of_client(Some(&not_der), Some(&absent)), "`tls_key_file` "),
            (of_client(Some(&not_der), Some(&text)), "text: it holds no private key"),
            (of_client(Some(&not_der), Some(&encrypted)), "encrypted: the key is encrypted; decrypt it"),
            (of_client(None, None), ""),
        ] {
            let shown = found.err().map(|fault| fault.to_string()).unwrap_or_default();
            assert_eq!(shown.is_empty(), expected.is_empty(), "{expected}: {shown}");
            assert!(shown.contains(expected) && !shown.contains("secret"), "{expected}: {shown}");
        }
        drop(std::fs::remove_dir_all(folder));
    }
}
