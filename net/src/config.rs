//! A node's configuration: the TOML file, the flags over it, and what they come to.
//!
//! Owns the names and defaults of the settings. Never opens a port or a directory. Every key of the file is in
//! `gramme.sample.toml`, which a test parses; an unknown key is an error that names the nearest known one, since a
//! misspelt setting that is silently ignored is worse than a node that does not start.

mod security;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gramme_core::base::limits::{BUCKET_DEFAULT, PARTITIONS_MAX, REPLICAS_DEFAULT, REPLICAS_MAX};
use gramme_core::port::Durability;
use gramme_core::ring::BucketView;
use gramme_core::shard::Bucket;
use gramme_core::version::{BlindPut, Conflict};
use gramme_engine::{SLA_P999_RANGE, check_background_rate};
use serde::Deserialize;

use crate::peer::Place;
use crate::secret::Source;
use crate::tls::TlsFiles;
pub use security::Auth;

/// The file, each key optional.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The data directory.
    pub data: Option<PathBuf>,
    /// The native protocol's address.
    pub listen: Option<SocketAddr>,
    /// The Redis protocol's address.
    pub resp: Option<SocketAddr>,
    /// The admin HTTP server's address.
    pub admin: Option<SocketAddr>,
    /// What people call this node.
    pub name: Option<String>,
    /// The zone that this node fails with.
    pub zone: Option<String>,
    /// `HOST:PORT` by which others reach the native port, where that is not what it listens on.
    pub advertise: Option<String>,
    /// `HOST:PORT` of nodes of the cluster to join.
    pub join: Option<Vec<String>>,
    /// This node's share of the data, relative to the others'.
    pub weight: Option<u32>,
    /// Shards; one a core when not said.
    pub shards: Option<u16>,
    /// RAM for values, all shards together.
    pub memory_bytes: Option<u64>,
    /// What the directory may take.
    pub capacity_bytes: Option<u64>,
    /// The default bucket's durability.
    pub durability: Option<DurabilityName>,
    /// How long a buffered write may be only in memory.
    pub commit_interval_ms: Option<u64>,
    /// The p99.9 that clients are promised; the background slows down before it is missed.
    pub sla_p999_ms: Option<u64>,
    /// What the background of all shards may move between nodes.
    pub background_bytes_per_s: Option<u64>,
    /// How many days a pass through everything on the disk takes; 0: there is none.
    pub scrub_days: Option<u64>,
    /// The greatest value accepted.
    pub value_bytes_max: Option<u32>,
    /// Log bytes between checkpoints, for each shard.
    pub checkpoint_bytes: Option<u64>,
    /// Requests that may wait at once in each shard.
    pub requests_max: Option<u32>,
    /// A segment's length; fixed when the directory is made.
    pub segment_bytes: Option<u32>,
    /// Partitions; fixed when the directory is made, the same on all nodes of a cluster.
    pub partitions: Option<u32>,
    /// Whether each shard's thread is bound to a core.
    pub pin_to_cores: Option<bool>,
    /// How long a shard may look on for work before it sleeps.
    pub spin_max_us: Option<u64>,
    /// Whether addresses off the loopback may be bound without TLS and authentication.
    pub insecure: Option<bool>,
    /// Where the secrets are.
    pub auth: Option<Auth>,
    /// Where the certificates are; without it nothing is encrypted.
    pub tls: Option<TlsFiles>,
    /// Buckets by name, with the rules that differ from the usual ones.
    pub buckets: BTreeMap<String, BucketRules>,
}

/// A bucket's rules, each optional.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BucketRules {
    /// Replicas.
    pub n: Option<u8>,
    /// Replicas whose answers a read waits for.
    pub r: Option<u8>,
    /// Replicas whose acknowledgements a write waits for.
    pub w: Option<u8>,
    /// When a write is acknowledged; the node's `durability` when not said.
    pub durability: Option<DurabilityName>,
    /// What happens to writes that did not see each other.
    pub conflict: Option<ConflictName>,
    /// What a put without a context means.
    pub blind_put: Option<BlindPutName>,
    /// Values expire after this long unless the put says otherwise.
    pub ttl_ms: Option<u64>,
}

/// A rule for writes that did not see each other, as people write it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ConflictName {
    /// All of them stay, the reader reconciles.
    Siblings,
    /// The later one wins.
    Lww,
    /// The later one is refused.
    Reject,
}

/// A rule for puts without a context, as people write it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BlindPutName {
    /// It follows everything earlier.
    Latest,
    /// It follows what the coordinator knows.
    Supersede,
    /// It never overwrites.
    Sibling,
    /// It is refused.
    Reject,
}

impl BucketRules {
    /// The bucket of this name, with the node's durability where its own is not said.
    fn bucket(&self, name: &str, durability: Durability) -> Bucket {
        let mut bucket = Bucket::new(name.as_bytes());
        bucket.durability = self.durability.map_or(durability, Into::into);
        bucket.conflict = match self.conflict {
            None => bucket.conflict,
            Some(ConflictName::Siblings) => Conflict::Siblings,
            Some(ConflictName::Lww) => Conflict::Lww,
            Some(ConflictName::Reject) => Conflict::Reject,
        };
        bucket.blind_put = match self.blind_put {
            None => bucket.blind_put,
            Some(BlindPutName::Latest) => BlindPut::Latest,
            Some(BlindPutName::Supersede) => BlindPut::Supersede,
            Some(BlindPutName::Sibling) => BlindPut::Sibling,
            Some(BlindPutName::Reject) => BlindPut::Reject,
        };
        bucket.ttl_ms = self.ttl_ms;
        bucket
    }

    /// The bucket's rules as the cluster shares them.
    fn view(&self, name: &str, durability: Durability) -> BucketView {
        let bucket = self.bucket(name, durability);
        BucketView {
            name: bucket.name,
            n: self.n.unwrap_or(REPLICAS_DEFAULT),
            r: self.r.unwrap_or(QUORUM_DEFAULT),
            w: self.w.unwrap_or(QUORUM_DEFAULT),
            durability: bucket.durability,
            conflict: bucket.conflict,
            blind_put: bucket.blind_put,
            ttl_ms: bucket.ttl_ms,
        }
    }
}

/// Answers of a read and acknowledgements of a write unless configured otherwise.
const QUORUM_DEFAULT: u8 = 2;
/// More is as good as never.
const SCRUB_DAYS_MAX: u64 = 36_500;

/// A durability as people write it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityName {
    /// Acknowledged from memory, committed within the commit interval.
    Buffered,
    /// One replica has it on stable media.
    One,
    /// All replicas that count have it on stable media.
    All,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Buffered => Self::Buffered,
            DurabilityName::One => Self::One,
            DurabilityName::All => Self::All,
        }
    }
}

/// What a node runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The native protocol's address.
    pub listen: SocketAddr,
    /// The Redis protocol's address.
    pub resp: SocketAddr,
    /// The admin HTTP server's address.
    pub admin: SocketAddr,
    /// Where the password of Redis clients is, if they need one.
    pub password: Option<Source>,
    /// Where the token of operators' changes is, if they need one.
    pub admin_token: Option<Source>,
    /// The settings that keep the engine's default when they are not said.
    pub file: File,
}

/// Why a configuration is refused.
#[derive(Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, has an unknown key or a value of the wrong kind.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError(format!(
                "cannot read the configuration {}: {error}",
                path.display()
            ))
        })?;
        Self::parse(&text).map_err(|error| ConfigError(format!("{}: {error}", path.display())))
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            match Unknown::find(error.message()) {
                Some(unknown) => ConfigError(format!("line {line}: {unknown}")),
                None => ConfigError(format!("line {line}: {}", error.message().trim())),
            }
        })
    }

    /// `over` where it says something, else `self`.
    #[must_use]
    pub fn overridden_by(self, over: Self) -> Self {
        Self {
            data: over.data.or(self.data),
            listen: over.listen.or(self.listen),
            resp: over.resp.or(self.resp),
            admin: over.admin.or(self.admin),
            name: over.name.or(self.name),
            zone: over.zone.or(self.zone),
            advertise: over.advertise.or(self.advertise),
            join: over.join.or(self.join),
            weight: over.weight.or(self.weight),
            shards: over.shards.or(self.shards),
            memory_bytes: over.memory_bytes.or(self.memory_bytes),
            capacity_bytes: over.capacity_bytes.or(self.capacity_bytes),
            durability: over.durability.or(self.durability),
            commit_interval_ms: over.commit_interval_ms.or(self.commit_interval_ms),
            sla_p999_ms: over.sla_p999_ms.or(self.sla_p999_ms),
            background_bytes_per_s: over.background_bytes_per_s.or(self.background_bytes_per_s),
            scrub_days: over.scrub_days.or(self.scrub_days),
            value_bytes_max: over.value_bytes_max.or(self.value_bytes_max),
            checkpoint_bytes: over.checkpoint_bytes.or(self.checkpoint_bytes),
            requests_max: over.requests_max.or(self.requests_max),
            segment_bytes: over.segment_bytes.or(self.segment_bytes),
            partitions: over.partitions.or(self.partitions),
            pin_to_cores: over.pin_to_cores.or(self.pin_to_cores),
            spin_max_us: over.spin_max_us.or(self.spin_max_us),
            insecure: over.insecure.or(self.insecure),
            auth: over.auth.or(self.auth),
            tls: over.tls.or(self.tls),
            // Only the file has them.
            buckets: if over.buckets.is_empty() {
                self.buckets
            } else {
                over.buckets
            },
        }
    }

    /// The whole configuration, checked.
    ///
    /// # Errors
    /// There is no data directory, an address is off the loopback without what protects it, or what is said of the cluster
    /// cannot be.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let data = self.data.clone().ok_or_else(|| {
            ConfigError(
                "no data directory: say --data DIR, or `data = \"DIR\"` in the configuration"
                    .into(),
            )
        })?;
        let auth = self.auth.clone().unwrap_or_default();
        let config = Config {
            data,
            password: auth.password(),
            admin_token: auth.admin_token(),
            listen: self
                .listen
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7400))),
            resp: self
                .resp
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7379))),
            admin: self
                .admin
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7480))),
            file: self,
        };
        config.file.check_cluster(config.listen)?;
        config.file.check_pace()?;
        security::check(&config)?;
        Ok(config)
    }

    /// What is said of the background's pace can be.
    fn check_pace(&self) -> Result<(), ConfigError> {
        if let Some(sla) = self.sla_p999()
            && !SLA_P999_RANGE.contains(&sla)
        {
            let (least, most) = (SLA_P999_RANGE.start(), SLA_P999_RANGE.end());
            return Err(ConfigError(format!(
                "sla_p999_ms = {} is not possible; {} to {} is",
                sla.as_millis(),
                least.as_millis(),
                most.as_millis()
            )));
        }
        let rate = self.background_bytes_per_s;
        rate.map_or(Ok(()), check_background_rate)
            .map_err(ConfigError)
    }

    /// What is said of the cluster can be.
    fn check_cluster(&self, listen: SocketAddr) -> Result<(), ConfigError> {
        let seeds = self.join.iter().flatten();
        for address in seeds.clone().chain(&self.advertise) {
            if Place::parse(address).is_none() {
                return Err(ConfigError(format!(
                    "`{address}` is no address of a node; say HOST:PORT, with the port of its native protocol"
                )));
            }
        }
        if seeds.count() > 0 && self.advertise.is_none() && listen.ip().is_unspecified() {
            return Err(ConfigError(format!(
                "listen = {listen} does not say how others reach this node; say --advertise HOST:{}",
                listen.port()
            )));
        }
        if let Some(partitions) = self.partitions
            && !(partitions.is_power_of_two() && (2..=PARTITIONS_MAX).contains(&partitions))
        {
            return Err(ConfigError(format!(
                "partitions = {partitions} is not possible; a power of two from 2 to {PARTITIONS_MAX} is"
            )));
        }
        for (name, bucket) in self.bucket_views_by_name() {
            let (n, r, w) = (bucket.n, bucket.r, bucket.w);
            if !(1..=REPLICAS_MAX).contains(&n) || !(1..=n).contains(&r) || !(1..=n).contains(&w) {
                return Err(ConfigError(format!(
                    "the bucket `{name}` has n = {n}, r = {r}, w = {w}; n is from 1 to {REPLICAS_MAX}, r and w from 1 to n"
                )));
            }
        }
        Ok(())
    }

    fn bucket_views_by_name(&self) -> impl Iterator<Item = (&str, BucketView)> {
        let durability = self.durability.map_or(Durability::Buffered, Into::into);
        let usual = BucketRules::default();
        let default = std::str::from_utf8(BUCKET_DEFAULT).unwrap_or("default");
        let missing = (!self.buckets.contains_key(default))
            .then(|| (default, usual.view(default, durability)));
        let said = self.buckets.iter();
        said.map(move |(name, rules)| (name.as_str(), rules.view(name, durability)))
            .chain(missing)
    }

    /// All buckets, `default` among them, as the cluster shares them.
    pub fn bucket_views(&self) -> Vec<BucketView> {
        self.bucket_views_by_name()
            .map(|(_, bucket)| bucket)
            .collect()
    }

    /// The buckets that have rules of their own.
    pub fn buckets(&self) -> Vec<Bucket> {
        let durability = self.durability.map_or(Durability::Buffered, Into::into);
        self.buckets
            .iter()
            .map(|(name, rules)| rules.bucket(name, durability))
            .collect()
    }

    /// The commit interval, if said.
    pub fn commit_interval(&self) -> Option<Duration> {
        self.commit_interval_ms.map(Duration::from_millis)
    }

    /// The p99.9 that clients are promised, if said.
    pub fn sla_p999(&self) -> Option<Duration> {
        self.sla_p999_ms.map(Duration::from_millis)
    }

    /// How long a pass through everything on the disk takes, if said; at most a century.
    pub fn scrub_interval(&self) -> Option<Duration> {
        let days = self.scrub_days?.min(SCRUB_DAYS_MAX);
        Some(Duration::from_secs(days * 24 * 3600))
    }

    /// The greatest time to look on for work, if said.
    pub fn spin_max(&self) -> Option<Duration> {
        self.spin_max_us.map(Duration::from_micros)
    }
}

/// serde's message about an unknown key, and the nearest of the keys that it lists.
struct Unknown<'a> {
    key: &'a str,
    nearest: Option<&'a str>,
}

impl<'a> Unknown<'a> {
    /// Takes serde's "unknown field `a`, expected one of `b`, `c`" apart.
    fn find(message: &'a str) -> Option<Self> {
        let mut quoted = message.strip_prefix("unknown field `")?.split('`');
        let key = quoted.next()?;
        let nearest = quoted
            .skip(1)
            .step_by(2)
            .map(|known| (strsim::damerau_levenshtein(key, known), known))
            .min()
            .map(|(_, known)| known);
        Some(Self { key, nearest })
    }
}

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown key `{}`", self.key)?;
        match self.nearest {
            Some(nearest) => write!(
                f,
                "; did you mean `{nearest}`? gramme.sample.toml has all keys"
            ),
            None => write!(f, "; gramme.sample.toml has all keys"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../gramme.sample.toml");

    #[test]
    fn the_sample_parses_and_says_the_defaults() {
        let commented = File::parse(SAMPLE).expect("the sample as shipped");
        assert_eq!(
            commented,
            File::default(),
            "the sample as shipped changes nothing"
        );
        let all: String = SAMPLE
            .lines()
            .map(|line| {
                if let Some(setting) = line.strip_prefix("#")
                    && !setting.starts_with(' ')
                {
                    setting
                } else {
                    line
                }
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let all = File::parse(&all).expect("the sample with every key in force");
        let shown = format!("{all:?}");
        assert!(
            !shown.contains("None"),
            "a key is missing in the sample: {shown}"
        );
        let config = all.resolve().expect("the defaults are allowed");
        let bare = File {
            data: Some("x".into()),
            ..File::default()
        }
        .resolve()
        .expect("defaults");
        assert_eq!(
            (config.listen, config.resp, config.admin),
            (bare.listen, bare.resp, bare.admin)
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = File::parse("shards = 2\nmemory_byte = 5\n")
            .expect_err("unknown")
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("`memory_bytes`"),
            "{error}"
        );
    }

    #[test]
    fn flags_override_and_other_machines_need_insecure() {
        let file = File::parse("data = \"a\"\nresp = \"0.0.0.0:1\"").expect("fine");
        let error = file
            .clone()
            .resolve()
            .expect_err("reachable from outside")
            .to_string();
        assert!(
            error.contains("--insecure") && error.contains("TLS"),
            "{error}"
        );
        let flags = File {
            insecure: Some(true),
            data: Some("b".into()),
            ..File::default()
        };
        let config = file.overridden_by(flags).resolve().expect("said insecure");
        assert_eq!(config.data, PathBuf::from("b"));
        assert!(File::default().resolve().is_err());
    }

    #[test]
    fn what_is_said_of_the_cluster_is_checked() {
        let error = |text: &str| {
            let file = File::parse(&format!("data = \"d\"\ninsecure = true\n{text}"));
            let resolved = file.expect("fine").resolve();
            resolved.expect_err("refused").to_string()
        };
        assert!(error("join = [\"nowhere\"]").contains("HOST:PORT"));
        assert!(error("partitions = 1000").contains("power of two"));
        assert!(error("sla_p999_ms = 0").contains("1 to 60000"));
        assert!(error("background_bytes_per_s = 1000").contains("1048576 or more"));
        let unsaid = error("join = [\"a:7400\"]\nlisten = \"0.0.0.0:7400\"");
        assert!(unsaid.contains("--advertise"), "{unsaid}");
        let quorum = error("[buckets.b]\nn = 2\nr = 3");
        assert!(
            quorum.contains("`b`") && quorum.contains("r = 3"),
            "{quorum}"
        );
        let file = File::parse("durability = \"one\"\n[buckets.b]\nn = 5").expect("fine");
        let views = file.bucket_views();
        let shown: Vec<_> = views
            .iter()
            .map(|bucket| (bucket.name.as_slice(), bucket.n, bucket.durability))
            .collect();
        assert_eq!(
            shown,
            [
                (b"b".as_slice(), 5, Durability::One),
                (b"default".as_slice(), 3, Durability::One)
            ]
        );
    }
}
