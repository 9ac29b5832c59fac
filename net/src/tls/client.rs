//! What a client needs: whom it trusts, and the certificate that it shows.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;

use super::TlsError;
use super::files::{Identity, authorities, provider};

/// A client's TLS.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// Trusts nodes of the authority in `ca`, and shows the certificate in `own`, with its key, where there is one: the
    /// native port demands one, the admin port does not. All are PEM files.
    ///
    /// # Errors
    /// They cannot be read, or do not fit together.
    pub fn read(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?
            .with_root_certificates(authorities(ca)?);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let own = Identity::read(cert, key)?;
                builder
                    .with_client_auth_cert(own.chain, own.key)
                    .map_err(|error| {
                        TlsError(format!("{} cannot be used: {error}", cert.display()))
                    })?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}
