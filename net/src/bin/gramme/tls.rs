//! The flags of TLS, which every command has that speaks with a node.

use std::path::PathBuf;

use gramme::client::ClientTls;

/// Where certificates are, as PEM files.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TlsArgs {
    /// The authority whose nodes are trusted (PEM); with it TLS is spoken
    #[arg(long, global = true, value_name = "FILE", env = "GRAMME_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show (PEM); a node's native port demands one
    #[arg(long, global = true, value_name = "FILE", env = "GRAMME_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "GRAMME_TLS_KEY")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// What they come to; none where no TLS is asked for.
    ///
    /// # Errors
    /// One is missing, or a file is not what it should be.
    pub(crate) fn read(&self) -> Result<Option<ClientTls>, String> {
        let own = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (None, None) => None,
            (Some(_), None) => return Err("--tls-cert needs its --tls-key".into()),
            (None, Some(_)) => return Err("--tls-key needs its --tls-cert".into()),
        };
        let Some(ca) = &self.tls_ca else {
            return match own {
                Some(_) => {
                    Err("--tls-cert needs --tls-ca, the authority whose nodes are trusted".into())
                }
                None => Ok(None),
            };
        };
        let tls = ClientTls::read(ca, own);
        tls.map(Some).map_err(|error| error.to_string())
    }
}
