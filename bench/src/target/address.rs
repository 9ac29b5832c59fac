//! `--target`, read.
//!
//! Owns the grammar `scheme://host:port` and `scheme:directory`. Never connects or opens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a target is and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Something that listens.
    Server {
        /// How to speak to it.
        protocol: Protocol,
        /// `host:port`.
        endpoint: String,
    },
    /// A store inside this process, with its directory.
    Embedded {
        /// Which store.
        store: StoreKind,
        /// Where its files are.
        directory: PathBuf,
    },
}

/// A protocol of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gramme's own.
    Native,
    /// Redis and all that speak like it.
    Resp,
    /// memcached's text protocol.
    Memcached,
}

/// An embedded store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// gramme's engine.
    Gramme,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// RocksDB.
    RocksDb,
}

const FORMS: &str = "native://HOST:PORT, resp://HOST:PORT, memcached://HOST:PORT, embedded:DIR, fjall:DIR, redb:DIR, rocksdb:DIR";

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(format!(
                "'{text}' names no kind of target: write one of {FORMS}"
            ));
        };
        let server = |protocol| {
            let endpoint = rest
                .strip_prefix("//")
                .unwrap_or(rest)
                .trim_end_matches('/');
            let port_ok = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !port_ok {
                return Err(format!(
                    "'{text}' needs a host and a port: {scheme}://HOST:PORT"
                ));
            }
            Ok(Address::Server {
                protocol,
                endpoint: endpoint.to_owned(),
            })
        };
        let embedded = |store| {
            let directory = rest.strip_prefix("//").unwrap_or(rest);
            if directory.is_empty() {
                return Err(format!("'{text}' needs a directory: {scheme}:DIR"));
            }
            Ok(Address::Embedded {
                store,
                directory: PathBuf::from(directory),
            })
        };
        match scheme {
            "native" | "gramme" => server(Protocol::Native),
            "resp" | "redis" => server(Protocol::Resp),
            "memcached" => server(Protocol::Memcached),
            "embedded" => embedded(StoreKind::Gramme),
            "fjall" => embedded(StoreKind::Fjall),
            "redb" => embedded(StoreKind::Redb),
            "rocksdb" => embedded(StoreKind::RocksDb),
            _ => Err(format!(
                "'{scheme}' is no kind of target that is known: write one of {FORMS}"
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Server { protocol, endpoint } => {
                let scheme = match protocol {
                    Protocol::Native => "native",
                    Protocol::Resp => "resp",
                    Protocol::Memcached => "memcached",
                };
                write!(f, "{scheme}://{endpoint}")
            }
            Address::Embedded { store, directory } => {
                let scheme = match store {
                    StoreKind::Gramme => "embedded",
                    StoreKind::Fjall => "fjall",
                    StoreKind::Redb => "redb",
                    StoreKind::RocksDb => "rocksdb",
                };
                write!(f, "{scheme}:{}", directory.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_contract_is_read_and_written_back() {
        for text in [
            "native://h:7400",
            "resp://127.0.0.1:6379",
            "memcached://[::1]:11211",
            "embedded:/tmp/x",
            "fjall:d",
            "redb:d",
            "rocksdb:d",
        ] {
            assert_eq!(
                text.parse::<Address>()
                    .expect("a form of the contract")
                    .to_string(),
                text
            );
        }
    }

    #[test]
    fn nonsense_is_told_what_would_do() {
        for (text, hint) in [
            ("localhost", "resp://"),
            ("http://x:1", "memcached://"),
            ("resp://x", "PORT"),
            ("resp://x:0", "PORT"),
            ("fjall:", "DIR"),
        ] {
            let error = text.parse::<Address>().expect_err("not a target");
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
