//! The connector: encrypts a connected socket, once the server has proven who it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::{task, time};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::stream::TlsStream;
use super::verdict::{TlsPeer, end_of_validity, of_failure, silence};
use super::{TlsFault, TlsOptions, files};
use crate::access;

/// The maximum time for a handshake. A port without TLS may wait for more, and would do so for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time before the end of a server's certificate from which on it is warned of.
const NEAR_END: Duration = Duration::from_secs(30 * 86_400);

/// Encrypts a connection to `host`, as `options` say. Their files are read anew. An error carries a [`TlsFault`].
pub(crate) async fn connect(stream: TcpStream, host: &str, options: &TlsOptions) -> io::Result<TlsStream> {
    let name = options.server_name.as_deref().unwrap_or(host).to_owned();
    let server = ServerName::try_from(name.clone()).map_err(|_| {
        TlsFault(format!("{name:?} is no name that a certificate can be for; name the server by `tls_server_name`"))
    })?;
    let asked = Arc::new(AtomicBool::new(false));
    // Files may be on a disk that is slow, and a system's roots are some hundred.
    let reading = task::spawn_blocking({
        let (options, asked, name) = (options.clone(), Arc::clone(&asked), name.clone());
        move || configuration(&options, asked, name)
    });
    let configuration = reading.await.map_err(io::Error::other)??;
    let peer = TlsPeer { name, options: options.clone(), asked };
    let handshake = TlsConnector::from(Arc::new(configuration)).connect(server, stream);
    match time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(TlsStream::new(stream, peer)),
        Ok(Err(error)) => Err(of_failure(error, &peer)),
        Err(_) => Err(silence(HANDSHAKE_TIMEOUT).into()),
    }
}

fn configuration(options: &TlsOptions, asked: Arc<AtomicBool>, name: String) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |error: Error| TlsFault(format!("TLS cannot be set up: {error}"));
    let client = ClientCertificate { asked, pair: files::client(options, &provider)? };
    let server = ServerVerification::new(files::roots(options)?, &provider, name)?;
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(unusable)?.dangerous().with_custom_certificate_verifier(Arc::new(server));
    Ok(builder.with_client_cert_resolver(Arc::new(client)))
}

/// The client's certificate, with a note of whether the server has asked for one: a server that gets none may refuse
/// it in words that tell nothing, or just hang up.
#[derive(Debug)]
struct ClientCertificate {
    asked: Arc<AtomicBool>,
    pair: Option<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Release);
        self.pair.clone()
    }

    fn has_certs(&self) -> bool {
        self.pair.is_some()
    }
}

/// The verification of the server's certificate: that of rustls, and once more for a day to come, so that the end
/// of its validity is warned of before.
#[derive(Debug)]
struct ServerVerification {
    verifier: Arc<WebPkiServerVerifier>,
    name: String,
}

impl ServerVerification {
    fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>, name: String) -> Result<Self, TlsFault> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let verifier = verifier.map_err(|error| TlsFault(format!("TLS cannot be set up: {error}")))?;
        Ok(Self { verifier, name })
    }
}

impl ServerCertVerifier for ServerVerification {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(certificate, chain, server, ocsp, now)?;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + NEAR_END);
        if let Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) =
            self.verifier.verify_server_cert(certificate, chain, server, ocsp, then)
        {
            access::warn_once(&end_of_validity(&self.name, not_after.as_secs().saturating_sub(now.as_secs())));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
