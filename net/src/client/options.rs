//! What a caller may say: once for a client, and for each request.

use std::time::Duration;

use gramme_core::base::limits::BUCKET_DEFAULT;
use gramme_core::port::{Condition, Durability, Expiry};

use crate::tls::ClientTls;
use crate::wire::Quorum;

/// A client's own behaviour.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Requests on their way at once; beyond it a request fails at once, not applied. More hides more latency and
    /// takes more memory (each keeps its key and value for a retry). 1 to 1,000,000.
    pub in_flight_max: u32,
    /// Retries for every hundred requests. Retries beyond it are not made, so that clients do not feed an overload.
    pub retry_percent: u32,
    /// Tries of one request, the first included.
    pub tries_max: u32,
    /// The wait before the second try; it doubles with each, and half of it is random.
    pub backoff: Duration,
    /// How long a connected node may be silent before another is asked, and it is left alone for as long: a node that was
    /// stopped keeps its connections. Shorter costs needless retries when nodes are slow, longer delays what such a node
    /// was asked.
    pub patience: Duration,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// Send checksums with frames to loopback too; elsewhere they are always sent.
    pub checksums: bool,
    /// Whom to trust, and what to show; without it nothing is encrypted.
    pub tls: Option<ClientTls>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 16_384,
            retry_percent: 20,
            tries_max: 5,
            backoff: Duration::from_millis(2),
            patience: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(2),
            checksums: false,
            tls: None,
        }
    }
}

/// One request's rules. What is not set is the bucket's rule.
#[derive(Clone, Debug)]
pub struct RequestOptions {
    pub(super) bucket: Vec<u8>,
    pub(super) quorum: Quorum,
    pub(super) is_strict: bool,
    pub(super) durability: Option<Durability>,
    pub(super) deadline: Duration,
    pub(super) expiry: Expiry,
    pub(super) condition: Condition,
    pub(super) latest: bool,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            bucket: BUCKET_DEFAULT.to_vec(),
            quorum: Quorum::default(),
            is_strict: false,
            durability: None,
            deadline: Duration::from_secs(5),
            expiry: Expiry::Default,
            condition: Condition::Always,
            latest: false,
        }
    }
}

impl RequestOptions {
    /// The bucket.
    #[must_use]
    pub fn bucket(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.bucket = name.into();
        self
    }

    /// Replicas, and answers that a read and a write wait for; 0 is the bucket's. They are bounded by what the cluster
    /// has; the receipt tells how many took part.
    #[must_use]
    pub fn quorum(mut self, n: u8, r: u8, w: u8) -> Self {
        self.quorum = Quorum {
            n,
            r,
            w,
            ..self.quorum
        };
        self
    }

    /// In how many distinct zones a write's acknowledgements are, and a read's answers; 0 and 1 ask for nothing. A stand-in
    /// counts for its own zone. What the key's replicas cannot meet is refused, not applied; what too few zones answer in time
    /// fails as a missed quorum does.
    #[must_use]
    pub fn zones(mut self, zones: u8) -> Self {
        self.quorum.zones = zones;
        self
    }

    /// Only a key's own replicas acknowledge a write (strict quorum): it fails where too few of them can be reached, instead of
    /// having others stand in. With R + W > N every later read shows it.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// How many of a write's acknowledgements must be on stable media.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// How long the request may take, retries included. What the server has not begun by then it drops.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// When a written value expires.
    #[must_use]
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Under which condition a put is done, decided at the key's coordinator. A put with a condition that is in doubt
    /// is not retried.
    #[must_use]
    pub fn condition(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// A write without a context follows everything earlier, whatever the bucket's rule.
    #[must_use]
    pub fn latest(mut self) -> Self {
        self.latest = true;
        self
    }
}
