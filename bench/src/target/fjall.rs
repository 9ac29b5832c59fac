//! fjall, an LSM tree in Rust.
//!
//! Settings: its defaults but for the cache's size; a durable write is one batch that asks for `SyncData`.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::open::StoreSettings;
use super::store::{EmbeddedStore, StoreError};
use crate::workload::Durability;

pub(super) struct Fjall {
    database: Database,
    records: Keyspace,
    cache_bytes: u64,
}

impl Fjall {
    pub(super) fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let fail = |error: fjall::Error| StoreError::new("open the fjall database", error);
        let database = Database::builder(directory)
            .cache_size(settings.cache_bytes)
            .open()
            .map_err(fail)?;
        let records = database
            .keyspace("records", KeyspaceCreateOptions::default)
            .map_err(fail)?;
        Ok(Fjall {
            database,
            records,
            cache_bytes: settings.cache_bytes,
        })
    }

    fn write(
        &self,
        doing: &'static str,
        durability: Durability,
        change: impl FnOnce(&mut fjall::OwnedWriteBatch),
    ) -> Result<(), StoreError> {
        let mode = match durability {
            Durability::Default => None,
            Durability::Durable => Some(PersistMode::SyncData),
        };
        let mut batch = self.database.batch().durability(mode);
        change(&mut batch);
        batch
            .commit()
            .map_err(|error| StoreError::new(doing, error))
    }
}

impl EmbeddedStore for Fjall {
    fn facts(&self) -> Vec<(String, String)> {
        vec![
            ("store".into(), "fjall 3".into()),
            ("cache_bytes".into(), self.cache_bytes.to_string()),
        ]
    }

    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError> {
        let value = self
            .records
            .get(key)
            .map_err(|error| StoreError::new("read from fjall", error))?;
        seen(value.as_deref());
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), StoreError> {
        match durability {
            Durability::Default => self
                .records
                .insert(key, value)
                .map_err(|error| StoreError::new("write to fjall", error)),
            Durability::Durable => self.write("write durably to fjall", durability, |batch| {
                batch.insert(&self.records, key, value)
            }),
        }
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<(), StoreError> {
        match durability {
            Durability::Default => self
                .records
                .remove(key)
                .map_err(|error| StoreError::new("delete from fjall", error)),
            Durability::Durable => self.write("delete durably from fjall", durability, |batch| {
                batch.remove(&self.records, key)
            }),
        }
    }

    fn scan(&self, key: &[u8], keys: u32) -> Result<Option<u32>, StoreError> {
        let mut found = 0;
        for guard in self.records.range(key..).take(keys as usize) {
            guard
                .into_inner()
                .map_err(|error| StoreError::new("scan fjall", error))?;
            found += 1;
        }
        Ok(Some(found))
    }

    fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        self.write("load fjall", Durability::Default, |batch| {
            for (key, value) in pairs {
                batch.insert(&self.records, key.as_slice(), value.as_slice());
            }
        })
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.database
            .persist(PersistMode::SyncAll)
            .map_err(|error| StoreError::new("sync fjall", error))
    }
}
