//! For tests: an authority, and certificates of it as files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Somebody who says who is who.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Files of one certificate.
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    /// A certificate with these names, as `NAME.pem` and `NAME.key` beside `NAME-ca.pem`.
    pub(crate) fn issue(&self, dir: &Path, name: &str, names: &[&str]) -> Files {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let write = |kind: &str, pem: String| {
            let path = dir.join(format!("{name}{kind}"));
            fs::write(&path, pem).expect("written");
            path
        };
        Files {
            ca: write("-ca.pem", self.0.pem()),
            cert: write(".pem", certificate.pem()),
            key: write(".key", key.serialize_pem()),
        }
    }
}
