//! TLS: certificates from files, and what they make of connections.
//!
//! Owns which certificates are trusted for what. Never touches a socket of the shards' (`reactor/tls.rs` seals and opens
//! bytes there); [`Stream`] is for threads that wait.
//!
//! A cluster has one authority (`ca`) of its own. Every node is trusted alike, so what matters is not which of them one
//! speaks with, but that it is one: a node's certificate bears the DNS name [`NODE_NAME`], and whoever connects to a
//! node checks for that name, not for the host. Addresses may then change without new certificates, and a certificate
//! without the name is a client's: it cannot pose as a node, in either direction.
//!
//! | port | the node shows | the other side shows |
//! |---|---|---|
//! | native | its certificate | any certificate of the authority; another node: one with the name |
//! | Redis | its certificate | nothing; it says a password |
//! | admin | its certificate | nothing; changes need a token |
//!
//! # Layout
//! - `files`: PEM files, and what is wrong with them;
//! - `node`: what a node needs;
//! - `client`: what a client needs;
//! - `validity`: until when a certificate counts;
//! - `stream`: a connection of a thread that waits.

mod client;
mod files;
#[cfg(test)]
pub(crate) mod fixture;
mod node;
mod stream;
mod validity;

pub use client::ClientTls;
pub use files::{TlsError, TlsFiles};
pub use node::NodeTls;
pub use stream::Stream;
pub(crate) use stream::explained;

use rustls::pki_types::ServerName;

/// The DNS name that a node's certificate must bear, beside the names by which other programs reach it.
pub const NODE_NAME: &str = "gramme-node";

/// What is said to a client that speaks no TLS where it is spoken, as an addition to why its connection ended.
pub(crate) fn hint(received: &[u8]) -> &'static str {
    match received {
        // An alert, whose version may be any.
        [21, 3, _, 0, 2, ..] => {
            " (it speaks TLS: name its authority and a certificate, by --tls-ca and so on)"
        }
        _ => "",
    }
}

/// [`NODE_NAME`], as TLS wants it.
pub(crate) fn node_name() -> ServerName<'static> {
    ServerName::try_from(NODE_NAME).expect("the constant is a DNS name")
}
