//! The threads' loop on a store made of a map.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::load::plan::Pace;
use crate::target::outcome::ErrorKind;
use crate::target::store::{Blocking, EmbeddedStore};
use crate::workload::{Durability, Process, Shape, preset};

#[derive(Default)]
struct MapStore {
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    pause: Duration,
}

impl EmbeddedStore for MapStore {
    fn facts(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    fn get(&self, key: &[u8], seen: &mut dyn FnMut(Option<&[u8]>)) -> Result<(), StoreError> {
        std::thread::sleep(self.pause);
        seen(
            self.map
                .lock()
                .expect("not poisoned")
                .get(key)
                .map(Vec::as_slice),
        );
        Ok(())
    }
    fn put(&self, key: &[u8], value: &[u8], _: Durability) -> Result<(), StoreError> {
        std::thread::sleep(self.pause);
        self.map
            .lock()
            .expect("not poisoned")
            .insert(key.to_vec(), value.to_vec());
        Ok(())
    }
    fn delete(&self, key: &[u8], _: Durability) -> Result<(), StoreError> {
        self.map.lock().expect("not poisoned").remove(key);
        Ok(())
    }
    fn scan(&self, _: &[u8], _: u32) -> Result<Option<u32>, StoreError> {
        Ok(None)
    }
}

fn plan(pace: Pace, threads: usize) -> LoadPlan {
    LoadPlan {
        pace,
        duration: Duration::from_millis(300),
        threads,
        connections: threads,
        depth: 1,
        timeout: Duration::from_millis(200),
        in_flight_max: 1000,
        spin: false,
        seed: 1,
        window: Duration::from_millis(50),
        share_index: 0,
        share_count: 1,
    }
}

fn run_on(store: &Blocking<MapStore>, plan: &LoadPlan, name: &str) -> Vec<Window> {
    let workload = preset::find(name).expect("built in");
    run(
        store,
        plan,
        &workload,
        &KeySpace::new(workload.records),
        |_| {},
    )
    .expect("the map does not fail")
    .windows
}

fn total(windows: &[Window], of: impl Fn(&Window) -> u64) -> u64 {
    windows.iter().map(of).sum()
}

#[test]
fn a_loaded_store_has_every_record_and_reads_hit_the_right_value() {
    let store = Blocking(MapStore::default());
    let workload = preset::find("ycsb-a").expect("built in");
    assert_eq!(presence(&store, &workload).expect("readable"), 0.0);
    load(&store, &workload, 2, 1, &|_| {}).expect("writable");
    assert_eq!(presence(&store, &workload).expect("readable"), 1.0);
    let windows = run_on(&store, &plan(Pace::Closed, 2), "ycsb-a");
    assert!(total(&windows, |window| window.counts.hits) > 100);
    assert_eq!(
        total(&windows, |window| window.counts.misses
            + window.counts.errors_total()
            + window.counts.foreign),
        0
    );
}

#[test]
fn a_store_that_is_too_slow_leaves_its_whole_waiting_time_in_the_figures() {
    // 1000 a second are wanted, one thread at 5 ms each does 200 at most: the last have waited for most of the run.
    let store = Blocking(MapStore {
        pause: Duration::from_millis(5),
        ..MapStore::default()
    });
    let open = Pace::Open {
        rate: 1000.0,
        process: Process::Fixed,
        shape: Shape::Constant,
    };
    let windows = run_on(&store, &plan(open, 1), "ycsb-c");
    let due = total(&windows, |window| window.counts.due);
    assert_eq!(due, 299, "every arrival of the schedule is accounted for");
    assert_eq!(total(&windows, |window| window.counts.ended), due);
    assert!(
        total(&windows, |window| window.counts.errors
            [ErrorKind::Timeout.index()])
            > 100
    );
    let backlog = windows
        .iter()
        .map(|window| window.backlog)
        .max()
        .expect("windows");
    assert!(
        backlog > 100,
        "{backlog}: a run that falls behind must show it"
    );
    let slowest_ns = windows
        .iter()
        .map(|window| window.response_all().max_ns)
        .max()
        .expect("windows");
    assert!(slowest_ns > 200_000_000, "{slowest_ns} ns");
}

#[test]
fn a_store_that_cannot_scan_says_so_in_the_counts() {
    let windows = run_on(
        &Blocking(MapStore::default()),
        &plan(Pace::Closed, 1),
        "ycsb-e",
    );
    assert!(
        total(&windows, |window| window.counts.errors
            [ErrorKind::Unsupported.index()])
            > 0
    );
}
