//! The index against a `BTreeMap`, its memory at every point of its growth, and keys chosen to share tokens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A place that carries the tag, distinct for each `serial`.
fn place(serial: u64, tag15: u16, is_tombstone: bool) -> Place {
    let location = (serial & 0xffff_ffff) + 1;
    Place(location | u64::from(is_tombstone) << 47 | u64::from(tag15) << 49)
}

fn entry(serial: u64, tag15: u16) -> Entry {
    Entry {
        fingerprint: serial.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        place: place(serial, tag15, serial.is_multiple_of(5)),
    }
}

/// The same tokens at every run: spread evenly, as a hash is.
fn spread(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 32
}

/// What an index is compared with.
#[derive(Default)]
struct Model {
    entries: BTreeMap<(u64, u16), Entry>,
}

impl Model {
    fn check(&self, index: &Index) {
        let tombstones = self
            .entries
            .iter()
            .filter(|((token, _), e)| e.place.is_tombstone() && !Token(*token).is_hint());
        assert_eq!(index.len(), self.entries.len());
        assert_eq!(index.tombstones(), tombstones.count());
        assert_eq!(
            index.values() + index.tombstones() + index.hint_entries,
            index.len()
        );
        let mut found: Vec<_> = index
            .scan_after(None)
            .map(|(token, entry)| ((token.0, entry.place.tag15()), entry))
            .collect();
        assert!(
            found.is_sorted_by_key(|((token, _), _)| *token),
            "a scan is in token order"
        );
        found.sort_by_key(|(key, _)| *key);
        let expected: Vec<_> = self.entries.iter().map(|(k, e)| (*k, *e)).collect();
        assert_eq!(found, expected);
        index.check();
    }
}

impl Index {
    /// The invariants of the file's header.
    fn check(&self) {
        let mut capacity = 0;
        for table in &self.tables {
            capacity += table.slots.capacity();
            assert_eq!(table.occupied().count(), table.len);
            let (mut token, mut run_begins) = (0, 0);
            for (at, slot) in table.slots.iter().enumerate() {
                if slot.is_empty() {
                    run_begins = at + 1;
                    continue;
                }
                let home = table.home(self.fraction(Token(slot.token)));
                assert!(home <= at, "no entry lies before its home");
                assert!(home >= run_begins, "no hole between a home and its entry");
                assert!(slot.token >= token, "entries are in token order");
                token = slot.token;
            }
        }
        assert_eq!(self.slot_count, capacity);
        let fixed = self.tables.capacity() * size_of::<Table>();
        assert_eq!(self.memory_bytes(), capacity * 24 + fixed);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, u16, u64),
    Remove(usize, u16),
    Replace(usize, u16, u64, bool),
    RemoveWhere(u64),
}

/// Tokens at the ends of partitions and slices, neighbours, one and the same, and some spread evenly.
fn tokens(slices: Slices, shard: ShardIndex) -> Vec<u64> {
    let width = (1u64 << 63) / u64::from(slices.partitions()) * 2;
    let starts = (0..u64::from(slices.partitions())).map(|p| p * width);
    let last = width - 1;
    let edges = starts.flat_map(|s| [0, 1, 2, width / 2, last - 1, last].map(|within| s + within));
    edges
        .chain((0..400).map(spread))
        .filter(|token| slices.shard_of(Token(*token)) == shard)
        .collect()
}

fn op() -> impl Strategy<Value = Op> {
    let key = || (0usize..4096, 0u16..6);
    prop_oneof![
        12 => (key(), any::<u64>()).prop_map(|((t, g), serial)| Op::Put(t, g, serial)),
        5 => key().prop_map(|(t, g)| Op::Remove(t, g)),
        3 => (key(), any::<u64>(), any::<bool>()).prop_map(|((t, g), s, is)| Op::Replace(t, g, s, is)),
        1 => (1u64..6).prop_map(Op::RemoveWhere),
    ]
}

fn run(partitions: u32, shards: u16, ops: &[Op]) {
    let slices = Slices::new(partitions, shards).expect("valid");
    let shard = ShardIndex(shards - 1);
    let tokens = tokens(slices, shard);
    let mut index = Index::new(slices, shard);
    let mut model = Model::default();
    for op in ops {
        match *op {
            Op::Put(at, tag, serial) => {
                let (token, entry) = (tokens[at % tokens.len()], entry(serial, tag));
                assert_eq!(
                    index.put(Token(token), tag, entry),
                    model.entries.insert((token, tag), entry)
                );
                assert_eq!(index.get(Token(token), tag), Some(entry));
            }
            Op::Remove(at, tag) => {
                let token = tokens[at % tokens.len()];
                assert_eq!(
                    index.remove(Token(token), tag),
                    model.entries.remove(&(token, tag))
                );
                assert_eq!(index.get(Token(token), tag), None);
            }
            Op::Replace(at, tag, serial, is_expected) => {
                let token = tokens[at % tokens.len()];
                let held = model.entries.get_mut(&(token, tag));
                let expected = held.as_ref().map_or(place(7, tag, false), |e| e.place);
                let expected = if is_expected {
                    expected
                } else {
                    Place(expected.0 ^ 8)
                };
                let new = place(serial, tag, true);
                let should = held.as_ref().is_some_and(|e| e.place == expected);
                assert_eq!(
                    index.replace_place(Token(token), tag, expected, new),
                    should
                );
                if let (Some(held), true) = (held, should) {
                    held.place = new;
                }
            }
            Op::RemoveWhere(modulus) => {
                let is_gone = |fingerprint: u64| fingerprint % 7 < modulus;
                let before = model.entries.len();
                model.entries.retain(|_, e| !is_gone(e.fingerprint));
                let removed = index.remove_where(|_, e| is_gone(e.fingerprint));
                assert_eq!(removed, before - model.entries.len());
            }
        }
        index.check();
    }
    model.check(&index);
    for after in tokens.iter().step_by(7) {
        let scanned: Vec<u64> = index
            .scan_after(Some(Token(*after)))
            .map(|(t, _)| t.0)
            .collect();
        let beyond = model.entries.keys().filter(|(token, _)| token > after);
        assert_eq!(scanned, beyond.map(|(token, _)| *token).collect::<Vec<_>>());
    }
    for partition in 0..partitions {
        let id = PartitionId(partition);
        let held = index.partition_entries(id).map(|(token, _)| token.0);
        let keys = model.entries.keys().map(|(token, _)| *token);
        let expected = keys.filter(|token| slices.partition_of(Token(*token)) == id);
        assert!(held.eq(expected), "{id} holds its tokens, in order");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_sorted_map(
        partition_bits in 1u32..6,
        shards in 1u16..4,
        ops in proptest::collection::vec(op(), 1..500),
    ) {
        run(1 << partition_bits, shards, &ops);
    }
}

#[test]
fn a_key_costs_at_most_32_bytes_at_every_point_of_growth() {
    for (partitions, shards) in [(64, 1), (256, 3), (1024, 1)] {
        let slices = Slices::new(partitions, shards).expect("valid");
        let mut index = Index::new(slices, ShardIndex(0));
        let mut worst: f64 = 0.0;
        for number in 0..150_000 * u64::from(shards) {
            let token = Token(spread(number));
            if slices.shard_of(token) != ShardIndex(0) {
                continue;
            }
            index.put(token, 1, entry(number, 1));
            if index.len() >= 48 * partitions as usize {
                worst = worst.max(index.memory_bytes() as f64 / index.len() as f64);
            }
        }
        index.check();
        assert!(worst > 0.0, "{partitions} partitions were filled");
        assert!(
            worst <= 32.0,
            "{worst:.2} B a key in {partitions} partitions"
        );
    }
}

#[test]
fn each_table_alone_keeps_to_32_bytes_a_key_once_it_holds_some_hundred() {
    let slices = Slices::new(2, 1).expect("valid");
    let mut index = Index::new(slices, ShardIndex(0));
    let fixed = index.memory_bytes();
    for number in 0..200_000 {
        index.put(Token(spread(number) >> 1), 1, entry(number, 1));
        let bytes = index.memory_bytes() - fixed;
        assert!(
            index.len() < 200 || bytes <= 32 * index.len(),
            "{bytes} bytes for {} keys",
            index.len()
        );
    }
}

#[test]
fn an_update_in_place_takes_no_more_memory() {
    let slices = Slices::new(4, 1).expect("valid");
    let mut index = Index::new(slices, ShardIndex(0));
    (0..1000).for_each(|n| {
        index.put(Token(spread(n)), 3, entry(n, 3));
    });
    let before = index.memory_bytes();
    for n in 0..1000 {
        let former = index.put(Token(spread(n)), 3, entry(n + 1, 3));
        assert_eq!(former, Some(entry(n, 3)));
    }
    assert_eq!(index.memory_bytes(), before);
}

/// Goal: keys that somebody chose to share the last token of a partition cost memory as others do, and end.
#[test]
fn a_long_run_of_one_token_at_the_end_of_a_table_is_held() {
    let slices = Slices::new(2, 1).expect("valid");
    for token in [Token(u64::MAX >> 1), Token(u64::MAX)] {
        let mut index = Index::new(slices, ShardIndex(0));
        for tag in 0..3000 {
            index.put(token, tag, entry(u64::from(tag), tag));
        }
        index.check();
        assert!(index.memory_bytes() < 3000 * 24 * 3);
        for tag in 0..3000 {
            assert_eq!(index.get(token, tag), Some(entry(u64::from(tag), tag)));
        }
        let entries: Vec<_> = index.scan_after(None).collect();
        let mut loaded = Index::new(slices, ShardIndex(0));
        loaded.load(slices.partition_of(token), &entries);
        loaded.check();
        assert_eq!(loaded.len(), 3000);
        assert_eq!(index.remove_where(|_, _| true), 3000);
        index.check();
        assert!(index.is_empty());
    }
}

#[test]
fn a_loaded_index_is_as_the_one_that_it_was_read_from_and_goes_on() {
    let slices = Slices::new(16, 2).expect("valid");
    let shard = ShardIndex(1);
    let mut index = Index::new(slices, shard);
    let own = |n: &u64| slices.shard_of(Token(spread(*n))) == shard;
    for n in (0..20_000).filter(own) {
        index.put(Token(spread(n)), 9, entry(n, 9));
    }
    let mut loaded = Index::new(slices, shard);
    for partition in 0..16 {
        let entries: Vec<_> = index.partition_entries(PartitionId(partition)).collect();
        loaded.load(PartitionId(partition), &entries);
    }
    loaded.check();
    assert!(loaded.memory_bytes() <= 32 * loaded.len());
    assert_eq!(loaded.tombstones(), index.tombstones());
    assert!(loaded.scan_after(None).eq(index.scan_after(None)));
    for n in (20_000..40_000).filter(own) {
        loaded.put(Token(spread(n)), 9, entry(n, 9));
        index.put(Token(spread(n)), 9, entry(n, 9));
    }
    loaded.check();
    assert!(loaded.scan_after(None).eq(index.scan_after(None)));
}
