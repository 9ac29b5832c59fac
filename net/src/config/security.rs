//! Who may speak to a node: where its secrets are, and which addresses other machines may reach.
//!
//! Never reads a secret: the node does when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::secret::{ADMIN_TOKEN_VARIABLE, PASSWORD_VARIABLE, Source};

/// Where the secrets are. The environment goes before it: `GRAMME_PASSWORD`, `GRAMME_ADMIN_TOKEN`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A file with what Redis clients must say with `AUTH` before anything else is answered.
    pub password_file: Option<PathBuf>,
    /// A file with what operators' changes of the cluster must say.
    pub admin_token_file: Option<PathBuf>,
}

impl Auth {
    pub(super) fn password(&self) -> Option<Source> {
        Source::find(PASSWORD_VARIABLE, self.password_file.as_deref())
    }

    pub(super) fn admin_token(&self) -> Option<Source> {
        Source::find(ADMIN_TOKEN_VARIABLE, self.admin_token_file.as_deref())
    }
}

/// Other machines reach no port that is not protected, unless the configuration says that this is meant.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.file.insecure.unwrap_or(false) {
        return Ok(());
    }
    let ports = [
        ("listen", config.listen),
        ("resp", config.resp),
        ("admin", config.admin),
    ];
    ports
        .into_iter()
        .try_for_each(|(name, address)| check_port(name, address))
}

fn check_port(name: &str, address: SocketAddr) -> Result<(), ConfigError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{name} = {address} can be reached from other machines, and gramme has no TLS yet; \
         use a loopback address, or say --insecure when the network is trusted"
    )))
}
