//! TLS to a server as `sslmode` asks: `verify-full` proves who answers, the others only encrypt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::action::ActionError;
use crate::actions::postgres::cluster::layout::Cluster;
use crate::language::inventory::SslMode;

/// How TLS is used with one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    mode: SslMode,
    root_cert: Option<PathBuf>,
}

impl Tls {
    /// As the entry of a cluster says; a socket has none.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        match cluster.socket {
            Some(_) => Self { mode: SslMode::Disable, root_cert: None },
            None => Self::over_tcp(cluster),
        }
    }

    /// The same for another server of the same cluster, which is always reached over TCP.
    pub(crate) fn over_tcp(cluster: &Cluster) -> Self {
        Self { mode: cluster.entry.sslmode, root_cert: cluster.entry.root_cert.clone() }
    }

    /// Whether it is wanted.
    pub(crate) fn mode(&self) -> SslMode {
        self.mode
    }

    /// The file of the certificates that are trusted, where the entry names one.
    pub(crate) fn root_cert(&self) -> Option<&Path> {
        self.root_cert.as_deref()
    }

    /// Makes its connector.
    ///
    /// # Errors
    /// Fails when `verify-full` finds no root certificates.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, ActionError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ActionError::fatal("TLS cannot be set up").because(&error))?;
        let config = match (self.mode, &self.root_cert) {
            (SslMode::VerifyFull, Some(file)) => builder.with_root_certificates(roots(file)?).with_no_client_auth(),
            (SslMode::VerifyFull, None) => return of_this_machine(),
            (SslMode::Disable | SslMode::Prefer | SslMode::Require, _) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
                .with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }
}

/// Trusts what this machine trusts.
fn of_this_machine() -> Result<MakeRustlsConnect, ActionError> {
    let (maker, _) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
        let fact = ActionError::fatal("no root certificate can be read, so `sslmode: verify-full` proves nothing")
            .help("set `root_cert` of the database to the file of the authority that signed the server's certificate");
        errors.first().map_or(fact.clone(), |error| fact.because(error))
    })?;
    Ok(maker)
}

/// The certificates of a PEM file.
fn roots(file: &Path) -> Result<RootCertStore, ActionError> {
    let unread = || ActionError::fatal(format!("the root certificates in `{}` cannot be read", file.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unread().because(&error))? {
        let certificate = certificate.map_err(|error| unread().because(&error))?;
        store.add(certificate).map_err(|error| unread().because(&error))?;
    }
    if store.is_empty() {
        return Err(ActionError::fatal(format!("`root_cert` `{}` holds no certificate", file.display()))
            .help("name a file in PEM form that begins with `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(store)
}

/// Accepts any certificate, as libpq's `prefer` and `require` do; signatures are still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
