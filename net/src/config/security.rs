//! Who may speak to a node: where its secrets are, and what must be there before other machines may reach it.
//!
//! Reads of the admin server are open, as any store's metrics are; its changes, and the cluster's over the native port, are
//! covered: the first exist only with a token, the others need a certificate.
//!
//! Never reads a secret: the node does when it starts.

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
    let reached: Vec<String> = [
        ("listen", config.listen),
        ("resp", config.resp),
        ("admin", config.admin),
    ]
    .into_iter()
    .filter(|(_, address)| !address.ip().is_loopback())
    .map(|(name, address)| format!("{name} = {address}"))
    .collect();
    let mut missing = Vec::new();
    if !reached.is_empty() && config.file.tls.is_none() {
        missing.push("TLS ([tls] with cert, key and ca)".to_owned());
    }
    if !config.resp.ip().is_loopback() && config.password.is_none() {
        missing.push(format!(
            "a password for Redis clients ({PASSWORD_VARIABLE}, or password_file in [auth])"
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConfigError(format!(
        "{} can be reached from other machines, and there is missing: {}; configure it, use loopback addresses, or say \
         --insecure when the network is trusted",
        reached.join(", "),
        missing.join(", and ")
    )))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, File};

    const TLS: &str = "[tls]\ncert = \"c\"\nkey = \"k\"\nca = \"a\"\n";
    const PASSWORD: &str = "[auth]\npassword_file = \"p\"\n";

    fn resolve(text: &str) -> Result<Config, String> {
        let file = File::parse(&format!("data = \"d\"\n{text}")).expect("it can be parsed");
        file.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn each_port_off_the_loopback_says_what_it_lacks() {
        for (port, needs_password) in [("listen", false), ("resp", true), ("admin", false)] {
            let open = format!("{port} = \"10.0.0.1:1\"\n");
            let bare = resolve(&open).expect_err("neither");
            assert!(
                bare.contains(&format!("{port} = 10.0.0.1:1 can be reached")),
                "{bare}"
            );
            assert!(
                bare.contains("[tls]") && bare.contains("--insecure"),
                "{bare}"
            );
            assert_eq!(bare.contains("GRAMME_PASSWORD"), needs_password, "{bare}");
            let with_tls = resolve(&format!("{open}{TLS}"));
            match needs_password {
                false => assert!(with_tls.is_ok(), "{with_tls:?}"),
                true => {
                    let error = with_tls.expect_err("no password");
                    assert!(
                        !error.contains("[tls]") && error.contains("password_file"),
                        "{error}"
                    );
                }
            }
            assert!(
                resolve(&format!("{open}{PASSWORD}")).is_err_and(|error| error.contains("[tls]"))
            );
            assert!(resolve(&format!("{open}{TLS}{PASSWORD}")).is_ok());
            assert!(resolve(&format!("{open}insecure = true\n")).is_ok());
        }
        assert!(resolve("resp = \"[::1]:1\"\n").is_ok(), "a loopback too");
    }

    #[test]
    fn certificates_are_named_all_or_not_at_all() {
        let error = File::parse("[tls]\ncert = \"c\"\nkey = \"k\"\n").expect_err("no authority");
        assert!(error.to_string().contains("`ca`"), "{error}");
    }
}
