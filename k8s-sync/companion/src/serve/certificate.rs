//! The certificate that is shown to whoever connects. Another one may take its place while
//! connections are open; they stay.

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// Shown by the listeners that share it.
#[derive(Debug)]
pub struct Certificate(Mutex<Arc<CertifiedKey>>);

/// A certificate or a key that is none.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or nothing in it.
    #[error("the certificate and its key are no PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// They do not fit each other.
    #[error("the certificate and its key: {0}")]
    Tls(#[from] rustls::Error),
}

impl Certificate {
    /// With its chain and its key, both PEM.
    ///
    /// # Errors
    /// When they are none, or do not fit each other.
    pub fn new(chain: &str, key: &str) -> Result<Arc<Certificate>, CertificateError> {
        Ok(Arc::new(Certificate(Mutex::new(read(chain, key)?))))
    }

    /// Shows another one from the next connection on.
    ///
    /// # Errors
    /// As `new`; the one of before is then shown as before.
    pub fn replace(&self, chain: &str, key: &str) -> Result<(), CertificateError> {
        *self.0.lock() = read(chain, key)?;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().clone())
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(rustls::pki_types::pem::Error::NoItemsFound.into());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
}
