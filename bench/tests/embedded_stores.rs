//! Every embedded store that this build contains, through the same trait: what is written is read, scanned, deleted,
//! and still there after it was opened again.

use std::path::PathBuf;
use std::time::Duration;

use gramme_bench::target::address::StoreKind;
use gramme_bench::target::open::{StoreSettings, open_store};
use gramme_bench::target::store::EmbeddedStore;
use gramme_bench::workload::{Durability, Verb};

const BUILT: [(StoreKind, &str, bool); 4] = [
    (StoreKind::Gramme, "gramme", true),
    (StoreKind::Fjall, "fjall", cfg!(feature = "fjall")),
    (StoreKind::Redb, "redb", cfg!(feature = "redb")),
    (StoreKind::RocksDb, "rocksdb", cfg!(feature = "rocksdb")),
];

fn settings() -> StoreSettings {
    StoreSettings {
        cache_bytes: 8 << 20,
        shards: Some(2),
        on_owner: false,
        timeout: Duration::from_secs(10),
    }
}

fn scratch(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("gramme-bench-store-{}-{name}", std::process::id()));
    // A leftover of an earlier run with the same process id.
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn value_of(store: &dyn EmbeddedStore, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    store
        .get(key, &mut |value| found = value.map(<[u8]>::to_vec))
        .expect("readable");
    found
}

#[test]
fn what_is_written_is_read_scanned_deleted_and_kept() {
    for (kind, name, built) in BUILT {
        if !built {
            eprintln!("skipped: {name} is not in this build (--features {name})");
            continue;
        }
        let directory = scratch(name);
        let settings = settings();
        {
            let source = open_store(kind, &directory, &settings).expect("a fresh directory");
            let store = source.store();
            assert!(
                !store.facts().is_empty(),
                "{name}: a record must say what was measured"
            );
            assert_eq!(value_of(store, b"absent"), None, "{name}");
            let pairs: Vec<(Vec<u8>, Vec<u8>)> = (0..100u8)
                .map(|number| (vec![b'k', number], vec![number; 50]))
                .collect();
            store.load(&pairs).expect("loadable");
            store
                .put(b"k\x05", b"buffered", Durability::Default)
                .expect("writable");
            store
                .put(b"k\x06", b"durable", Durability::Durable)
                .expect("writable");
            store
                .put(b"k\x07", b"", Durability::Default)
                .expect("an empty value is a value");
            store
                .delete(b"k\x08", Durability::Default)
                .expect("deletable");
            store
                .delete(b"k\x09", Durability::Durable)
                .expect("deletable");
            let scanned = store.can(Verb::Scan).then_some((10, 2));
            assert_eq!(
                (
                    store.scan(b"k\x00", 10).expect("answered"),
                    store.scan(b"k\x62", 10).expect("answered"),
                ),
                (scanned.map(|two| two.0), scanned.map(|two| two.1)),
                "{name}: the end is the end"
            );
            store.settle().expect("settles");
        }
        let source = open_store(kind, &directory, &settings).expect("the same directory again");
        let store = source.store();
        assert_eq!(
            value_of(store, b"k\x04").as_deref(),
            Some(&[4; 50][..]),
            "{name}"
        );
        assert_eq!(
            value_of(store, b"k\x05").as_deref(),
            Some(&b"buffered"[..]),
            "{name}"
        );
        assert_eq!(
            value_of(store, b"k\x06").as_deref(),
            Some(&b"durable"[..]),
            "{name}"
        );
        assert_eq!(
            value_of(store, b"k\x07").as_deref(),
            Some(&b""[..]),
            "{name}"
        );
        assert_eq!(
            (value_of(store, b"k\x08"), value_of(store, b"k\x09")),
            (None, None),
            "{name}"
        );
        drop(source);
        std::fs::remove_dir_all(&directory).expect("ours");
    }
}

#[test]
fn a_store_that_is_not_built_in_says_how_to_build_it() {
    for (kind, name, built) in BUILT {
        if !built {
            let refused = open_store(kind, &scratch("none"), &settings());
            let said = refused
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(said.contains(&format!("--features {name}")), "{said}");
        }
    }
}
