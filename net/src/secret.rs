//! Secrets: where they come from, and how something that was said is compared with one.
//!
//! Owns their bytes. They come from a file or the environment, never from a flag, which every user of the machine can
//! read, and they are never shown: neither `Debug` nor an error has them.

use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The environment variable of what Redis clients say with `AUTH`.
pub const PASSWORD_VARIABLE: &str = "GRAMME_PASSWORD";

/// The environment variable of what operators' changes of the cluster must say.
pub const ADMIN_TOKEN_VARIABLE: &str = "GRAMME_ADMIN_TOKEN";

/// A longer secret is none: somebody has named the wrong file.
const BYTES_MAX: usize = 4096;

/// A password or a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl Secret {
    /// These bytes, without a line's end behind them.
    ///
    /// # Errors
    /// There are none, or too many.
    pub fn new(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match bytes.len() {
            0 => Err("is empty"),
            1..=BYTES_MAX => Ok(Self(bytes.to_vec())),
            _ => Err("is longer than 4096 bytes"),
        }
    }

    /// Whether this was said; takes a time that says nothing about where they differ.
    pub fn is(&self, said: &[u8]) -> bool {
        let differences = self
            .0
            .iter()
            .enumerate()
            .fold(0, |differences, (at, byte)| {
                // The compiler is not to stop at the first one.
                black_box(differences | (byte ^ said.get(at).unwrap_or(&!byte)))
            });
        differences == 0 && self.0.len() == said.len()
    }

    /// For a request that must have it; not for people.
    ///
    /// # Errors
    /// It is no text.
    pub fn text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this environment variable.
    Environment(&'static str),
    /// In this file, alone.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// The environment where it has one, else the file, if one is named.
    pub fn find(variable: &'static str, file: Option<&Path>) -> Option<Self> {
        if std::env::var_os(variable).is_some() {
            return Some(Self::Environment(variable));
        }
        file.map(|path| Self::File(path.to_path_buf()))
    }

    /// The secret.
    ///
    /// # Errors
    /// It cannot be read, or is none; in words, without it.
    pub fn read(&self) -> Result<Secret, String> {
        let bytes = match self {
            Self::Environment(name) => {
                let value = std::env::var_os(name).unwrap_or_default();
                value.as_encoded_bytes().to_vec()
            }
            Self::File(path) => read_file(path)
                .map_err(|error| format!("cannot read the secret in {self}: {error}"))?,
        };
        Secret::new(&bytes).map_err(|why| format!("the secret in {self} {why}"))
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    warn_of_readers(path, &file);
    let mut bytes = Vec::new();
    file.take(BYTES_MAX as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Says so where every user of the machine may read a secret's file.
pub(crate) fn warn_of_readers(path: &Path, file: &File) {
    let mode = file
        .metadata()
        .map_or(0, |about| about.permissions().mode());
    if mode & 0o004 != 0 {
        tracing::warn!(
            "{} holds a secret, and every user of this machine may read it; chmod o= it",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).expect("a secret")
    }

    #[test]
    fn only_the_very_secret_is_it() {
        let right = secret("secret");
        assert!(right.is(b"secret"));
        for wrong in ["", "secre", "secret ", "Secret", "secrets", "\0"] {
            assert!(!right.is(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_line_end_is_no_part_of_it_and_nothing_shows_it() {
        assert_eq!(secret("secret\n"), secret("secret"));
        assert_eq!(secret("secret\r\n"), secret("secret"));
        assert!(secret(" secret").is(b" secret"), "a blank is");
        assert!(Secret::new(b"\n").is_err());
        assert!(Secret::new(&[b'x'; BYTES_MAX + 1]).is_err());
        assert!(!format!("{:?}", secret("secret")).contains("secret"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let source = Source::File("/nowhere/password".into());
        let error = source.read().expect_err("it is not there");
        assert!(error.contains("/nowhere/password"), "{error}");
    }
}
