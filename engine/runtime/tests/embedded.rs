//! The embedded engine as its user has it: real threads, a real directory.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gramme_engine::core::base::ids::ShardIndex;
use gramme_engine::core::port::{Durability, Failure};
use gramme_engine::merge::Union;
use gramme_engine::{Engine, EngineConfig, Error, Options};

fn config(dir: &tempfile::TempDir, shards: u16) -> EngineConfig {
    EngineConfig {
        shards: Some(shards),
        segment_bytes: Some(1 << 20),
        capacity_bytes: Some(u64::from(shards) * (64 << 20)),
        memory_bytes: u64::from(shards) * (16 << 20),
        pin_to_cores: false,
        ..EngineConfig::new(dir.path())
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

const PLAIN: Options<'static> = Options {
    zones: 0,
    bucket: None,
    durability: None,
    deadline: None,
    context: None,
    ttl: None,
    write_id: None,
};

const DURABLE: Options<'static> = Options {
    durability: Some(Durability::All),
    ..PLAIN
};

#[test]
fn what_is_put_is_read_deleted_and_absent() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 2)).expect("opened");
    block_on(async {
        assert!(engine.get(b"cart").await.expect("read").is_none());
        let written = engine.put(b"cart", b"milk").await.expect("written");
        assert_eq!(written.receipt.replicas, 1);
        let found = engine.get(b"cart").await.expect("read").expect("there");
        assert_eq!(found.values, vec![b"milk".to_vec()]);
        let options = Options {
            context: Some(&found.context),
            ..PLAIN
        };
        engine.delete(b"cart", &options).await.expect("deleted");
        assert!(engine.get(b"cart").await.expect("read").is_none());
    });
    engine.stop().expect("stopped");
    let refused = engine.get_blocking(b"cart", &PLAIN);
    assert!(
        matches!(refused, Err(Error::Stopped { in_doubt: false })),
        "{refused:?}"
    );
}

#[test]
fn a_bucket_that_is_not_configured_is_an_error_for_reads_too() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 2)).expect("opened");
    let nowhere = Options {
        bucket: Some(b"nowhere"),
        ..PLAIN
    };
    let is_no_bucket = |error: &Error| matches!(error, Error::Failed(Failure::NoBucket));
    let read = engine.get_blocking(b"key", &nowhere).map(drop);
    assert!(read.as_ref().is_err_and(is_no_bucket), "{read:?}");
    let walked = engine.keys_blocking(ShardIndex(1), 0, 10, &nowhere);
    assert!(walked.as_ref().is_err_and(is_no_bucket), "{walked:?}");
    engine.stop().expect("stopped");
}

#[test]
fn a_node_that_is_the_whole_cluster_is_in_one_zone() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 1)).expect("opened");
    let zones = |zones| Options { zones, ..PLAIN };
    let is_refused = |error: &Error| {
        let expected = Failure::Zones {
            got: 1,
            needed: 2,
            is_in_doubt: false,
        };
        matches!(error, Error::Failed(failure) if *failure == expected)
    };
    let written = engine.put_blocking(b"key", b"value", &zones(2));
    let written = written.map(drop);
    assert!(written.as_ref().is_err_and(is_refused), "{written:?}");
    engine
        .put_blocking(b"key", b"value", &zones(1))
        .expect("written");
    let read = engine.get_blocking(b"key", &zones(2)).map(drop);
    assert!(read.as_ref().is_err_and(is_refused), "{read:?}");
    engine.stop().expect("stopped");
}

#[test]
fn writers_that_did_not_see_each_other_leave_siblings_and_an_update_merges_them() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 1)).expect("opened");
    engine
        .put_blocking(b"cart", b"milk", &PLAIN)
        .expect("written");
    let seen = engine
        .get_blocking(b"cart", &PLAIN)
        .expect("read")
        .expect("there")
        .context;
    let options = Options {
        context: Some(&seen),
        ..PLAIN
    };
    engine
        .put_blocking(b"cart", b"milk\nbread", &options)
        .expect("written");
    engine
        .put_blocking(b"cart", b"milk\neggs", &options)
        .expect("written");
    let found = engine
        .get_blocking(b"cart", &PLAIN)
        .expect("read")
        .expect("there");
    assert_eq!(found.values.len(), 2);
    assert_eq!(found.latest(), b"milk\neggs");
    let add = |cart: Option<Vec<u8>>| [cart.unwrap_or_default(), b"\ntea".to_vec()].concat();
    engine
        .update_blocking(b"cart", &Union, &PLAIN, add)
        .expect("updated");
    let found = engine
        .get_blocking(b"cart", &PLAIN)
        .expect("read")
        .expect("there");
    assert_eq!(found.values, vec![b"bread\neggs\nmilk\ntea".to_vec()]);
    engine
        .update_blocking(b"new", &Union, &PLAIN, add)
        .expect("updated");
    let found = engine
        .get_blocking(b"new", &PLAIN)
        .expect("read")
        .expect("there");
    assert_eq!(found.latest(), b"\ntea");
}

#[test]
fn everything_is_there_after_a_stop_and_a_start() {
    let dir = directory();
    let keys: Vec<String> = (0..2000).map(|key| format!("key-{key}")).collect();
    let engine = Engine::open(config(&dir, 2)).expect("opened");
    let mut pipeline = engine.pipeline(512);
    for (tag, key) in keys.iter().enumerate() {
        while !pipeline.has_room() {
            pipeline.wait(1, |reply| assert!(reply.written().is_ok()));
        }
        pipeline
            .put(tag as u64, key.as_bytes(), key.as_bytes(), &PLAIN)
            .expect("taken");
    }
    pipeline.wait(usize::MAX, |reply| assert!(reply.written().is_ok()));
    assert_eq!(pipeline.in_flight(), 0);
    drop(pipeline);
    engine.stop().expect("stopped");
    drop(engine);

    let engine = Engine::open(config(&dir, 2)).expect("opened again");
    let statuses = engine.status();
    let counted: u64 = statuses.iter().flatten().map(|status| status.keys).sum();
    assert_eq!(counted, 2000);
    for key in &keys {
        let found = engine
            .get_blocking(key.as_bytes(), &PLAIN)
            .expect("read")
            .expect("there");
        assert_eq!(found.latest(), key.as_bytes());
    }
}

/// The file and the place where the only copy of some bytes lies on the disk.
fn place_of(dir: &std::path::Path, wanted: &[u8]) -> (std::path::PathBuf, u64) {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("listed");
            left.extend(entries.map(|entry| entry.expect("listed").path()));
            continue;
        }
        let bytes = std::fs::read(&path).expect("read");
        let at = bytes.windows(wanted.len()).position(|part| part == wanted);
        found.extend(at.map(|at| (path, at as u64)));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn what_rots_at_rest_is_told_without_anybody_asking_for_it() {
    use std::os::unix::fs::FileExt;
    let dir = directory();
    let engine = Engine::open(config(&dir, 1)).expect("opened");
    // More than a segment, so that the first ones are at rest.
    let value = |key: u32| format!("value {key} {}", "x".repeat(2000));
    let mut pipeline = engine.pipeline(512);
    for key in 0..2000_u32 {
        while !pipeline.has_room() {
            pipeline.wait(1, |reply| assert!(reply.written().is_ok()));
        }
        pipeline
            .put(
                u64::from(key),
                &key.to_le_bytes(),
                value(key).as_bytes(),
                &PLAIN,
            )
            .expect("taken");
    }
    pipeline.wait(usize::MAX, |reply| assert!(reply.written().is_ok()));
    drop(pipeline);
    engine.stop().expect("stopped");
    drop(engine);

    let (path, at) = place_of(dir.path(), b"value 17 x");
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("a segment");
    file.write_all_at(b"V", at).expect("written");
    drop(file);

    let engine = Engine::open(EngineConfig {
        scrub_interval: Duration::from_secs(1),
        ..config(&dir, 1)
    })
    .expect("opened again");
    let told = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let status = engine.status().remove(0).expect("it answers");
        (status.scrubs > 1).then_some(status)
    });
    let told = told.expect("two passes within a minute");
    assert_eq!(
        (told.damage.len(), told.damage_unrepaired),
        (1, 1),
        "{told:?}"
    );
    assert_eq!(told.gets, 0);
    let rotted = engine.get_blocking(&17_u32.to_le_bytes(), &PLAIN);
    assert!(
        matches!(
            rotted,
            Err(Error::Failed(Failure::Corrupt { .. } | Failure::Unknown))
        ),
        "{rotted:?}"
    );
}

#[test]
fn a_durable_write_says_that_it_is_on_stable_media() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 1)).expect("opened");
    let written = engine.put_blocking(b"k", b"v", &DURABLE).expect("written");
    assert_eq!(written.receipt.on_stable_media, 1);
    let written = engine.put_blocking(b"k", b"v", &PLAIN).expect("written");
    assert_eq!(written.receipt.on_stable_media, 0);
}

#[test]
fn many_threads_write_durably_and_read_each_others_keys() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 2)).expect("opened");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let engine = engine.clone();
            scope.spawn(move || {
                for round in 0..50 {
                    let key = format!("{thread}/{round}");
                    engine
                        .put_blocking(key.as_bytes(), b"v", &DURABLE)
                        .expect("written");
                }
            });
        }
    });
    for thread in 0..8 {
        for round in 0..50 {
            let key = format!("{thread}/{round}");
            assert!(
                engine
                    .get_blocking(key.as_bytes(), &PLAIN)
                    .expect("read")
                    .is_some()
            );
        }
    }
}

#[test]
fn a_future_on_the_owners_core_reads_and_writes_without_a_hop() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 2)).expect("opened");
    let result = engine.on_owner_blocking(b"counter", |local| async move {
        assert!(local.owns(b"counter"));
        for round in 0..1000_u32 {
            local
                .put(b"counter", &round.to_be_bytes())
                .await
                .expect("written");
        }
        let durable = local
            .put_with(b"other", b"v", &DURABLE)
            .await
            .expect("written");
        assert_eq!(durable.receipt.on_stable_media, 1);
        // Some of these keys belong to the other shard.
        for key in 0..100_u32 {
            local.put(&key.to_be_bytes(), b"v").await.expect("written");
            assert!(local.get(&key.to_be_bytes()).await.expect("read").is_some());
        }
        local
            .get_with(b"counter", |value| value.map(<[u8]>::to_vec))
            .await
            .expect("read")
    });
    assert_eq!(result.expect("ran"), Some(999_u32.to_be_bytes().to_vec()));
    let shards = engine.on_each_shard_blocking(|local| async move { local.shard() });
    assert_eq!(shards.expect("ran"), vec![ShardIndex(0), ShardIndex(1)]);
}

#[test]
fn a_panic_of_a_callers_future_is_the_callers_and_the_shard_goes_on() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 1)).expect("opened");
    let panicking = engine.clone();
    let thread = std::thread::spawn(move || {
        panicking.on_owner_blocking(b"k", |_| async { panic!("on purpose") })
    });
    assert!(thread.join().is_err());
    engine
        .put_blocking(b"k", b"v", &PLAIN)
        .expect("the shard lives");
    assert!(engine.failures().is_empty());
}

#[test]
fn a_busy_future_does_not_starve_the_shard() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 1)).expect("opened");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = {
        let stop = Arc::clone(&stop);
        engine.on_owner(b"k", move |local| async move {
            let mut rounds = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                local.put(b"k", b"v").await.expect("written");
                rounds += 1;
            }
            rounds
        })
    };
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        engine
            .put_blocking(b"other", b"v", &DURABLE)
            .expect("written");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "starved: {:?}",
        begun.elapsed()
    );
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(block_on(busy).expect("ran") > 0);
}

#[test]
fn dropping_the_last_handle_stops_the_engine_and_what_was_written_is_there() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 2)).expect("opened");
    engine.put_blocking(b"k", b"v", &PLAIN).expect("written");
    drop(engine);
    let engine = Engine::open(config(&dir, 2)).expect("opened again");
    assert!(engine.get_blocking(b"k", &PLAIN).expect("read").is_some());
}

#[test]
fn another_number_of_shards_finds_every_key_with_its_siblings() {
    let dir = directory();
    let bucket = Options {
        bucket: Some(b"carts"),
        ..PLAIN
    };
    let carts = || {
        let mut carts = gramme_engine::core::shard::Bucket::new(b"carts");
        carts.conflict = gramme_engine::core::version::Conflict::Siblings;
        vec![carts]
    };
    for shards in [1, 3, 2] {
        let engine = Engine::open(EngineConfig {
            buckets: carts(),
            ..config(&dir, shards)
        })
        .expect("opened");
        for key in 0..500_u32 {
            let (key, options) = (key.to_be_bytes(), [PLAIN, bucket]);
            for options in &options {
                if shards == 1 {
                    engine.put_blocking(&key, &key, options).expect("written");
                }
                let found = engine
                    .get_blocking(&key, options)
                    .expect("read")
                    .expect("there");
                assert_eq!(found.latest(), key);
            }
        }
        if shards == 1 {
            engine
                .put_blocking(b"siblings", b"first", &PLAIN)
                .expect("written");
            let seen = engine
                .get_blocking(b"siblings", &PLAIN)
                .expect("read")
                .expect("there")
                .context;
            let options = Options {
                context: Some(&seen),
                ..PLAIN
            };
            engine
                .put_blocking(b"siblings", b"a", &options)
                .expect("written");
            engine
                .put_blocking(b"siblings", b"b", &options)
                .expect("written");
        }
        let found = engine
            .get_blocking(b"siblings", &PLAIN)
            .expect("read")
            .expect("there");
        assert_eq!(found.values, vec![b"b".to_vec(), b"a".to_vec()]);
        engine.stop().expect("stopped");
    }
}

#[test]
fn another_number_of_shards_keeps_deletions_expiries_and_what_no_configuration_names() {
    let dir = directory();
    let open = |shards, has_carts| {
        let carts = gramme_engine::core::shard::Bucket::new(b"carts");
        let buckets = if has_carts { vec![carts] } else { Vec::new() };
        let config = EngineConfig {
            buckets,
            ..config(&dir, shards)
        };
        Engine::open(config).expect("opened")
    };
    let carts = Options {
        bucket: Some(b"carts"),
        ..PLAIN
    };
    let name = |key: u32| key.to_be_bytes();
    let keys = 300_u32;
    let engine = open(1, true);
    let mut backup = Vec::new();
    let mut pipeline = engine.pipeline(8);
    for key in 0..keys {
        for options in [&PLAIN, &carts] {
            engine
                .put_blocking(&name(key), &name(key), options)
                .expect("written");
        }
        pipeline.get(0, &name(key), &PLAIN).expect("sent");
        pipeline.wait(1, |reply| {
            backup.push(reply.object().expect("read").expect("there").to_vec());
        });
    }
    for key in (0..keys).step_by(2) {
        engine.delete_blocking(&name(key), &PLAIN).expect("deleted");
    }
    let (soon, late) = (Duration::from_millis(100), Duration::from_secs(3600));
    for (key, ttl) in [(b"soon", soon), (b"late", late)] {
        let options = Options {
            ttl: Some(ttl),
            ..PLAIN
        };
        engine.put_blocking(key, b"v", &options).expect("written");
    }
    drop(pipeline);
    engine.stop().expect("stopped");
    drop(engine);
    std::thread::sleep(2 * soon);

    // Of the bucket nobody speaks this time.
    open(3, false).stop().expect("dealt and stopped");
    let engine = open(2, true);
    let tombstones: u64 = engine.status().iter().flatten().map(|s| s.tombstones).sum();
    assert_eq!(tombstones, u64::from(keys / 2));
    // Somebody reads the backup back in, as an import does.
    let mut pipeline = engine.pipeline(8);
    for (key, object) in (0..).zip(&backup) {
        pipeline.merge(0, &name(key), object, &PLAIN).expect("sent");
        pipeline.wait(1, |reply| drop(reply.written().expect("merged")));
    }
    for key in 0..keys {
        let found = engine.get_blocking(&name(key), &PLAIN).expect("read");
        assert_eq!(found.is_some(), key % 2 == 1, "key {key}");
        let found = engine.get_blocking(&name(key), &carts).expect("read");
        assert_eq!(found.expect("of the bucket").latest(), name(key));
    }
    assert!(
        engine
            .get_blocking(b"soon", &PLAIN)
            .expect("read")
            .is_none()
    );
    let mut expires_at_ms = None;
    pipeline.get(0, b"late", &PLAIN).expect("sent");
    pipeline.wait(1, |reply| {
        let object = reply.object().expect("read").expect("there");
        let view = gramme_engine::core::version::ObjectView::parse(object).expect("an object");
        expires_at_ms = view.single().and_then(|sibling| sibling.expires_at_ms);
    });
    assert!(expires_at_ms.is_some(), "it keeps its time");
    engine.stop().expect("stopped");
}

#[test]
fn a_shard_that_hangs_is_found_and_the_others_are_not_blamed() {
    let dir = directory();
    let engine = Engine::open(config(&dir, 2)).expect("opens");
    assert!(engine.hung(Duration::from_secs(10)).is_empty());
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (tell, begun) = std::sync::mpsc::channel();
    let hanging = engine.on_shard(ShardIndex(1), move |_| async move {
        tell.send(()).expect("the test waits");
        // What no task may do: it holds the whole core.
        let _ = released.recv();
    });
    begun
        .recv_timeout(Duration::from_secs(10))
        .expect("the shard runs it");
    assert_eq!(engine.hung(Duration::from_millis(300)), vec![ShardIndex(1)]);
    release.send(()).expect("it waits");
    block_on(hanging).expect("it ended");
    assert!(engine.hung(Duration::from_secs(10)).is_empty());
    engine.stop().expect("stops");
}
