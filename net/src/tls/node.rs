//! What a node needs: one configuration of TLS for each kind of connection.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, ClientConfig, ServerConfig};

use super::files::{Identity, authorities, provider};
use super::validity::ends_s;
use super::{NODE_NAME, TlsError, TlsFiles, node_name};

/// A node's TLS.
#[derive(Clone, Debug)]
pub struct NodeTls {
    /// For clients that show no certificate: of the Redis protocol, and of the admin server.
    pub open: Arc<ServerConfig>,
    /// For those that must show one: native clients, and other nodes.
    pub mutual: Arc<ServerConfig>,
    /// For connections to other nodes.
    pub peer: Arc<ClientConfig>,
    /// The second, since 1970, from which on nobody takes this one for a node any more; 0 where that cannot be told.
    pub ends_s: u64,
}

impl NodeTls {
    /// From these files.
    ///
    /// # Errors
    /// They cannot be read, or other nodes would not take this one for a node.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let roots = authorities(&files.ca)?;
        let own = Identity::read(&files.cert, &files.key)?;
        let failed = |error: &dyn std::fmt::Display| {
            TlsError(format!("{} cannot be used: {error}", files.cert.display()))
        };
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|error| failed(&error))?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(|error| failed(&error))?;
        // A node that nobody would speak with says so at its start.
        if let [first, between @ ..] = own.chain.as_slice() {
            servers
                .verify_server_cert(first, between, &node_name(), &[], UnixTime::now())
                .map_err(|error| not_a_nodes(files, &error))?;
            clients
                .verify_client_cert(first, between, UnixTime::now())
                .map_err(|error| not_a_nodes(files, &error))?;
        }
        let ends = own
            .chain
            .iter()
            .filter_map(|certificate| ends_s(certificate));
        let ends_s = ends.min().unwrap_or_default();
        warn_of_end(files, ends_s);
        let mut open = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(ALL_VERSIONS)
            .map_err(|error| failed(&error))?
            .with_no_client_auth()
            .with_single_cert(own.chain.clone(), own.key.clone_key())
            .map_err(|error| failed(&error))?;
        let mut mutual = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(own.chain.clone(), own.key.clone_key())
            .map_err(|error| failed(&error))?;
        let mut peer = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| failed(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(own.chain, own.key)
            .map_err(|error| failed(&error))?;
        // Each connection is checked whole, so that a certificate that has run out counts no longer than its connections.
        for server in [&mut open, &mut mutual] {
            server.send_tls13_tickets = 0;
            server.session_storage = Arc::new(NoServerSessionStorage {});
        }
        peer.resumption = Resumption::disabled();
        Ok(Self {
            open: Arc::new(open),
            mutual: Arc::new(mutual),
            peer: Arc::new(peer),
            ends_s,
        })
    }
}

/// A certificate that ends sooner is said at the start.
const WARN_BEFORE_S: u64 = 14 * 86_400;

fn warn_of_end(files: &TlsFiles, ends_s: u64) {
    let left_s = ends_s.saturating_sub(UnixTime::now().as_secs());
    if ends_s != 0 && left_s < WARN_BEFORE_S {
        tracing::warn!(
            "{} runs out in {} days; nobody connects to this node after that, see tuning/CERTIFICATES.md",
            files.cert.display(),
            left_s / 86_400
        );
    }
}

fn not_a_nodes(files: &TlsFiles, error: &rustls::Error) -> TlsError {
    TlsError(format!(
        "{} is no node's certificate to who trusts {}: {error}; it must bear the DNS name `{NODE_NAME}`, for servers and \
         for clients",
        files.cert.display(),
        files.ca.display()
    ))
}
