//! Certificates and keys as PEM files.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use crate::secret::warn_of_readers;

/// A longer file is none of certificates.
const BYTES_MAX: u64 = 1 << 20;

/// Where certificates are, as PEM.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and the authority's.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities that the other side's must be of.
    pub ca: PathBuf,
}

/// What is wrong with a certificate, in words; never what a key's file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError(pub(super) String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// A chain of certificates, and the key of the first.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(super) fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let pem = read(key, Holds::Secret)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
            TlsError(format!("no private key is in {}: {error}", key.display()))
        })?;
        Ok(Self { chain, key })
    }
}

/// The authorities in a file.
pub(super) fn authorities(ca: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| {
            TlsError(format!(
                "{} is no authority's certificate: {error}",
                ca.display()
            ))
        })?;
    }
    Ok(Arc::new(roots))
}

/// What does the arithmetic: named at each use, since a process has no default that every caller of this library could
/// agree upon.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path, Holds::NoSecret)?;
    let all = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match all {
        Ok(all) if all.is_empty() => {
            Err(TlsError(format!("no certificate is in {}", path.display())))
        }
        Ok(all) => Ok(all),
        Err(error) => Err(TlsError(format!(
            "{} is not as PEM files are: {error}",
            path.display()
        ))),
    }
}

enum Holds {
    Secret,
    NoSecret,
}

fn read(path: &Path, holds: Holds) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let file = File::open(path)?;
        if matches!(holds, Holds::Secret) {
            warn_of_readers(path, &file);
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: std::io::Error| {
        TlsError(format!("cannot read {}: {error}", path.display()))
    })
}
