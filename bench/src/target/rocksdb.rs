//! RocksDB, through the C interface of the installed library.
//!
//! Owns every unsafe line of this package. Never outlives its handles: each is destroyed once, by `Drop`.
//!
//! Why not a crate: the usual one compiles all of RocksDB (a quarter of an hour on two cores) or needs a C++ header
//! generator; twenty declarations over a stable C header need neither, and the feature stays off by default.
//!
//! Settings: defaults, but a bloom filter of 10 bits a key, background jobs for each CPU, and the cache's size; a
//! durable write sets `sync`.

#![allow(
    unsafe_code,
    reason = "a C library; every call is in this file, with its reason"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::slice;

use super::open::StoreSettings;
use super::store::{EmbeddedStore, StoreError};
use crate::workload::Durability;

/// Declares opaque C types.
macro_rules! opaque {
    ($($name:ident)*) => { $(#[repr(C)] struct $name { _private: [u8; 0] })* };
}
opaque!(Db Options BlockOptions Cache FilterPolicy WriteOptions ReadOptions PinnedSlice Iter Batch FlushOptions);

#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_open(
        options: *const Options,
        name: *const c_char,
        error: *mut *mut c_char,
    ) -> *mut Db;
    fn rocksdb_close(db: *mut Db);
    fn rocksdb_options_create() -> *mut Options;
    fn rocksdb_options_destroy(options: *mut Options);
    fn rocksdb_options_set_create_if_missing(options: *mut Options, yes: c_uchar);
    fn rocksdb_options_increase_parallelism(options: *mut Options, threads: c_int);
    fn rocksdb_options_set_block_based_table_factory(
        options: *mut Options,
        table: *mut BlockOptions,
    );
    fn rocksdb_block_based_options_create() -> *mut BlockOptions;
    fn rocksdb_block_based_options_destroy(table: *mut BlockOptions);
    fn rocksdb_block_based_options_set_filter_policy(
        table: *mut BlockOptions,
        policy: *mut FilterPolicy,
    );
    fn rocksdb_block_based_options_set_block_cache(table: *mut BlockOptions, cache: *mut Cache);
    fn rocksdb_filterpolicy_create_bloom_full(bits_per_key: f64) -> *mut FilterPolicy;
    fn rocksdb_cache_create_lru(bytes: usize) -> *mut Cache;
    fn rocksdb_cache_destroy(cache: *mut Cache);
    fn rocksdb_writeoptions_create() -> *mut WriteOptions;
    fn rocksdb_writeoptions_destroy(options: *mut WriteOptions);
    fn rocksdb_writeoptions_set_sync(options: *mut WriteOptions, yes: c_uchar);
    fn rocksdb_readoptions_create() -> *mut ReadOptions;
    fn rocksdb_readoptions_destroy(options: *mut ReadOptions);
    fn rocksdb_put(
        db: *mut Db,
        o: *const WriteOptions,
        key: *const c_char,
        kl: usize,
        value: *const c_char,
        vl: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_delete(
        db: *mut Db,
        o: *const WriteOptions,
        key: *const c_char,
        kl: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_get_pinned(
        db: *mut Db,
        o: *const ReadOptions,
        key: *const c_char,
        kl: usize,
        error: *mut *mut c_char,
    ) -> *mut PinnedSlice;
    fn rocksdb_pinnableslice_value(slice: *const PinnedSlice, bytes: *mut usize) -> *const c_char;
    fn rocksdb_pinnableslice_destroy(slice: *mut PinnedSlice);
    fn rocksdb_create_iterator(db: *mut Db, o: *const ReadOptions) -> *mut Iter;
    fn rocksdb_iter_seek(iter: *mut Iter, key: *const c_char, kl: usize);
    fn rocksdb_iter_valid(iter: *const Iter) -> c_uchar;
    fn rocksdb_iter_value(iter: *const Iter, bytes: *mut usize) -> *const c_char;
    fn rocksdb_iter_next(iter: *mut Iter);
    fn rocksdb_iter_get_error(iter: *const Iter, error: *mut *mut c_char);
    fn rocksdb_iter_destroy(iter: *mut Iter);
    fn rocksdb_writebatch_create() -> *mut Batch;
    fn rocksdb_writebatch_put(
        batch: *mut Batch,
        key: *const c_char,
        kl: usize,
        value: *const c_char,
        vl: usize,
    );
    fn rocksdb_writebatch_destroy(batch: *mut Batch);
    fn rocksdb_write(
        db: *mut Db,
        o: *const WriteOptions,
        batch: *mut Batch,
        error: *mut *mut c_char,
    );
    fn rocksdb_flushoptions_create() -> *mut FlushOptions;
    fn rocksdb_flushoptions_destroy(options: *mut FlushOptions);
    fn rocksdb_flush(db: *mut Db, o: *const FlushOptions, error: *mut *mut c_char);
    fn rocksdb_free(pointer: *mut std::ffi::c_void);
}

pub(super) struct RocksDb {
    db: NonNull<Db>,
    options: *mut Options,
    buffered: *mut WriteOptions,
    synced: *mut WriteOptions,
    reading: *mut ReadOptions,
    cache_bytes: u64,
}

// SAFETY: rocksdb's C handles may be used from any thread at once; its header promises so for the database, and the
// option objects are not changed after `open`.
unsafe impl Send for RocksDb {}
// SAFETY: as above.
unsafe impl Sync for RocksDb {}

/// Runs a C call that reports errors through a pointer to a string.
fn checked<T>(
    doing: &'static str,
    call: impl FnOnce(*mut *mut c_char) -> T,
) -> Result<T, StoreError> {
    let mut message: *mut c_char = ptr::null_mut();
    let result = call(&raw mut message);
    if message.is_null() {
        return Ok(result);
    }
    // SAFETY: a non-null error is a NUL-terminated string made with malloc, ours to free, and not used afterwards.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        rocksdb_free(message.cast());
        text
    };
    Err(StoreError::new(doing, text))
}

impl RocksDb {
    pub(super) fn open(directory: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let name = CString::new(directory.as_os_str().as_encoded_bytes())
            .map_err(|error| StoreError::new("name the rocksdb directory", error))?;
        let cpus = std::thread::available_parallelism()
            .map_or(1, |cpus| c_int::try_from(cpus.get()).unwrap_or(1));
        // SAFETY: each create call returns a fresh handle; the table options take ownership of the filter policy, and
        // the database keeps its own reference to the cache, so both may be let go here.
        let (options, buffered, synced, reading) = unsafe {
            let options = rocksdb_options_create();
            rocksdb_options_set_create_if_missing(options, 1);
            rocksdb_options_increase_parallelism(options, cpus);
            let table = rocksdb_block_based_options_create();
            rocksdb_block_based_options_set_filter_policy(
                table,
                rocksdb_filterpolicy_create_bloom_full(10.0),
            );
            let cache = rocksdb_cache_create_lru(
                usize::try_from(settings.cache_bytes).unwrap_or(usize::MAX),
            );
            rocksdb_block_based_options_set_block_cache(table, cache);
            rocksdb_options_set_block_based_table_factory(options, table);
            rocksdb_block_based_options_destroy(table);
            rocksdb_cache_destroy(cache);
            let synced = rocksdb_writeoptions_create();
            rocksdb_writeoptions_set_sync(synced, 1);
            (
                options,
                rocksdb_writeoptions_create(),
                synced,
                rocksdb_readoptions_create(),
            )
        };
        // SAFETY: options and name live through the call.
        let opened = checked("open the rocksdb database", |error| unsafe {
            rocksdb_open(options, name.as_ptr(), error)
        });
        let db = opened.and_then(|db| {
            NonNull::new(db)
                .ok_or_else(|| StoreError::new("open the rocksdb database", "no handle came back"))
        });
        match db {
            Ok(db) => Ok(RocksDb {
                db,
                options,
                buffered,
                synced,
                reading,
                cache_bytes: settings.cache_bytes,
            }),
            Err(error) => {
                // SAFETY: made above, used nowhere else.
                unsafe { destroy_options(options, buffered, synced, reading) };
                Err(error)
            }
        }
    }

    fn writing(&self, durability: Durability) -> *const WriteOptions {
        match durability {
            Durability::Default => self.buffered,
            Durability::Durable => self.synced,
        }
    }
}

/// # Safety
/// The four must come from their create calls and not be used afterwards.
unsafe fn destroy_options(
    options: *mut Options,
    buffered: *mut WriteOptions,
    synced: *mut WriteOptions,
    reading: *mut ReadOptions,
) {
    // SAFETY: the caller's promise.
    unsafe {
        rocksdb_readoptions_destroy(reading);
        rocksdb_writeoptions_destroy(buffered);
        rocksdb_writeoptions_destroy(synced);
        rocksdb_options_destroy(options);
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: made in `open`, destroyed only here, the database first.
        unsafe {
            rocksdb_close(self.db.as_ptr());
            destroy_options(self.options, self.buffered, self.synced, self.reading);
        }
    }
}

impl EmbeddedStore for RocksDb {
    fn facts(&self) -> Vec<(String, String)> {
        vec![
            ("store".into(), "rocksdb (installed C library)".into()),
            ("cache_bytes".into(), self.cache_bytes.to_string()),
            ("bloom_bits_per_key".into(), "10".into()),
        ]
    }

    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError> {
        // SAFETY: the handles are alive; the key is read during the call only.
        let found = checked("read from rocksdb", |error| unsafe {
            rocksdb_get_pinned(
                self.db.as_ptr(),
                self.reading,
                key.as_ptr().cast(),
                key.len(),
                error,
            )
        })?;
        if found.is_null() {
            seen(None);
            return Ok(());
        }
        // SAFETY: the pinned slice and its bytes stay valid until it is destroyed below, after their last use.
        unsafe {
            let mut bytes = 0;
            let value = rocksdb_pinnableslice_value(found, &raw mut bytes);
            if value.is_null() {
                seen(Some(&[]))
            } else {
                seen(Some(slice::from_raw_parts(value.cast(), bytes)))
            }
            rocksdb_pinnableslice_destroy(found);
        }
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<(), StoreError> {
        // SAFETY: the handles are alive; key and value are copied during the call.
        checked("write to rocksdb", |error| unsafe {
            rocksdb_put(
                self.db.as_ptr(),
                self.writing(durability),
                key.as_ptr().cast(),
                key.len(),
                value.as_ptr().cast(),
                value.len(),
                error,
            );
        })
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<(), StoreError> {
        // SAFETY: as for `put`.
        checked("delete from rocksdb", |error| unsafe {
            rocksdb_delete(
                self.db.as_ptr(),
                self.writing(durability),
                key.as_ptr().cast(),
                key.len(),
                error,
            );
        })
    }

    fn scan(&self, key: &[u8], keys: u32) -> Result<Option<u32>, StoreError> {
        // SAFETY: the iterator is made, used and destroyed by this thread; the value's bytes are not kept.
        unsafe {
            let iter = rocksdb_create_iterator(self.db.as_ptr(), self.reading);
            rocksdb_iter_seek(iter, key.as_ptr().cast(), key.len());
            let (mut found, mut bytes) = (0, 0);
            while found < keys && rocksdb_iter_valid(iter) != 0 {
                rocksdb_iter_value(iter, &raw mut bytes);
                found += 1;
                rocksdb_iter_next(iter);
            }
            let ended = checked("scan rocksdb", |error| rocksdb_iter_get_error(iter, error));
            rocksdb_iter_destroy(iter);
            ended.map(|()| Some(found))
        }
    }

    fn load(&self, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        // SAFETY: the batch copies what is put into it, and is destroyed after the write that reads it.
        unsafe {
            let batch = rocksdb_writebatch_create();
            for (key, value) in pairs {
                rocksdb_writebatch_put(
                    batch,
                    key.as_ptr().cast(),
                    key.len(),
                    value.as_ptr().cast(),
                    value.len(),
                );
            }
            let written = checked("load rocksdb", |error| {
                rocksdb_write(self.db.as_ptr(), self.buffered, batch, error)
            });
            rocksdb_writebatch_destroy(batch);
            written
        }
    }

    fn settle(&self) -> Result<(), StoreError> {
        // SAFETY: the flush options live through the call and are destroyed after it.
        unsafe {
            let options = rocksdb_flushoptions_create();
            let flushed = checked("flush rocksdb", |error| {
                rocksdb_flush(self.db.as_ptr(), options, error)
            });
            rocksdb_flushoptions_destroy(options);
            flushed
        }
    }
}
