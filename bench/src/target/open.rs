//! Opening an embedded store by its kind.
//!
//! Owns the choice among the stores that were compiled in, and the words for those that were not.

use std::path::Path;
use std::time::Duration;

use super::address::StoreKind;
use super::embedded::Embedded;
use super::store::{SessionSource, StoreError};

/// What a user may set on every store.
#[derive(Debug, Clone, Copy)]
pub struct StoreSettings {
    /// Bytes of the store's own cache.
    pub cache_bytes: u64,
    /// Shards of gramme's engine; none said: one a core.
    pub shards: Option<u16>,
    /// Whether the load runs on the cores that own the data (gramme's engine only).
    pub on_owner: bool,
    /// How long a request of gramme's own client may take, retries included.
    pub timeout: Duration,
}

/// Opens the store of `kind` in `directory`.
pub fn open_store(
    kind: StoreKind,
    directory: &Path,
    settings: &StoreSettings,
) -> Result<Box<dyn SessionSource>, StoreError> {
    match kind {
        #[cfg(feature = "fjall")]
        StoreKind::Fjall => Ok(Box::new(super::store::Blocking(super::fjall::Fjall::open(
            directory, settings,
        )?))),
        #[cfg(not(feature = "fjall"))]
        StoreKind::Fjall => Err(not_built("fjall")),
        #[cfg(feature = "redb")]
        StoreKind::Redb => Ok(Box::new(super::store::Blocking(super::redb::Redb::open(
            directory, settings,
        )?))),
        #[cfg(not(feature = "redb"))]
        StoreKind::Redb => Err(not_built("redb")),
        #[cfg(feature = "rocksdb")]
        StoreKind::RocksDb => Ok(Box::new(super::store::Blocking(
            super::rocksdb::RocksDb::open(directory, settings)?,
        ))),
        #[cfg(not(feature = "rocksdb"))]
        StoreKind::RocksDb => Err(not_built("rocksdb")),
        StoreKind::Gramme => Ok(Box::new(Embedded::open(directory, settings)?)),
    }
}

#[cfg(not(all(feature = "fjall", feature = "redb", feature = "rocksdb")))]
fn not_built(name: &str) -> StoreError {
    StoreError::new(
        "open the store",
        format!(
            "{name} is not compiled into this binary: build with `cargo build --release -p gramme-bench --features {name}`"
        ),
    )
}
