//! The one TLS provider of the program.

/// Installs the provider. Every room calls it before it makes a client; again it is refused and harmless.
pub fn install() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
