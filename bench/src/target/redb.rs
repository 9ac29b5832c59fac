//! redb, a copy-on-write B-tree in Rust.
//!
//! Settings: its defaults but for the cache's size. A write without durability commits with `Durability::None`; one
//! commit in a thousand is `Immediate`, because until then redb cannot reuse the pages that the others freed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, ReadableDatabase, TableDefinition};

use super::open::StoreSettings;
use super::store::{EmbeddedStore, StoreError};
use crate::workload::Durability;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const COMMITS_PER_SYNC: u64 = 1000;

pub(super) struct Redb {
    database: Database,
    commits: AtomicU64,
    cache_bytes: u64,
}

type Table<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

impl Redb {
    pub(super) fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory)
            .map_err(|error| StoreError::new("make the directory for redb", error))?;
        let database = Database::builder()
            .set_cache_size(usize::try_from(settings.cache_bytes).unwrap_or(usize::MAX))
            .create(directory.join("records.redb"))
            .map_err(|error| StoreError::new("open the redb database", error))?;
        let store = Redb {
            database,
            commits: AtomicU64::new(0),
            cache_bytes: settings.cache_bytes,
        };
        store
            .write(Durability::Durable, |_| Ok(()))
            .map_err(|error| StoreError::new("make the redb table", error))?;
        Ok(store)
    }

    fn write(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Table<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        let number = self.commits.fetch_add(1, Ordering::Relaxed);
        if durability == Durability::Default && !number.is_multiple_of(COMMITS_PER_SYNC) {
            transaction.set_durability(redb::Durability::None)?;
        }
        {
            let mut table = transaction.open_table(RECORDS)?;
            change(&mut table)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn read(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), redb::Error> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let value = table.get(key)?;
        seen(value.as_ref().map(|value| value.value()));
        Ok(())
    }

    fn count_from(&self, key: &[u8], keys: u32) -> Result<u32, redb::Error> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let mut found = 0;
        for pair in table.range(key..)?.take(keys as usize) {
            pair?;
            found += 1;
        }
        Ok(found)
    }
}

impl EmbeddedStore for Redb {
    fn facts(&self) -> Vec<(String, String)> {
        vec![
            ("store".into(), "redb 4".into()),
            ("cache_bytes".into(), self.cache_bytes.to_string()),
        ]
    }

    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError> {
        self.read(key, seen)
            .map_err(|error| StoreError::new("read from redb", error))
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), StoreError> {
        self.write(durability, |table| {
            table
                .insert(key, value)
                .map(|_| ())
                .map_err(redb::Error::from)
        })
        .map_err(|error| StoreError::new("write to redb", error))
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<(), StoreError> {
        self.write(durability, |table| {
            table.remove(key).map(|_| ()).map_err(redb::Error::from)
        })
        .map_err(|error| StoreError::new("delete from redb", error))
    }

    fn scan(&self, key: &[u8], keys: u32) -> Result<Option<u32>, StoreError> {
        self.count_from(key, keys)
            .map(Some)
            .map_err(|error| StoreError::new("scan redb", error))
    }

    fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        self.write(Durability::Default, |table| {
            for (key, value) in pairs {
                table.insert(key.as_slice(), value.as_slice())?;
            }
            Ok(())
        })
        .map_err(|error| StoreError::new("load redb", error))
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.write(Durability::Durable, |_| Ok(()))
            .map_err(|error| StoreError::new("sync redb", error))
    }
}
