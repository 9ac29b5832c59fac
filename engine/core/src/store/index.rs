//! The index: where the newest record of each key lies, and its fingerprint; 24 bytes a slot.
//!
//! Owns one table for each partition. A table is open addressing with linear probing whose entries are kept in token
//! order (the home of a token rises with it), so a miss ends at the first greater token, a scan reads in order, and a
//! table grows by one pass over it. Tables are small and grow by an eighth or less at different moments: no long pause,
//! and never much empty space, so that from 48 keys a partition on a key costs at most 32 bytes all told.
//! Never knows what a record holds; two keys of one token are told apart by 15 more bits of a seeded tag.
//!
//! Invariants:
//! - in each table, occupied slots are in order of token (those of one token in the order of their arrival), none lies
//!   before its home;
//! - between a token's home and its slot every slot is occupied;
//! - `slot_count` is the sum of the tables' capacities.
//!
//! Why the slots behind the last home are added as they are needed: keys may be chosen to share a token (its hash has no
//! secret), and no fixed number of them, nor any number of homes, holds a run that all begins at the last home.

use crate::base::ids::{PartitionId, ShardIndex, Token};
use crate::ring::Slices;
use crate::store::place::Place;

/// What the index knows of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Of the key's object.
    pub fingerprint: u64,
    /// Where its record lies.
    pub place: Place,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    token: u64,
    fingerprint: u64,
    place: u64,
}

impl Slot {
    const fn is_empty(&self) -> bool {
        self.place == 0
    }

    const fn is_of(&self, token: u64, tag15: u16) -> bool {
        self.token == token && Place(self.place).tag15() == tag15
    }

    const fn is_tombstone(&self) -> bool {
        Place(self.place).is_tombstone()
    }

    const fn is_hint(&self) -> bool {
        Token(self.token).is_hint()
    }

    const fn entry(&self) -> Entry {
        Entry {
            fingerprint: self.fingerprint,
            place: Place(self.place),
        }
    }
}

/// Homes of a table at its first growth.
const HOMES_MIN: usize = 8;
/// Below so many homes a table grows by a sixteenth: the last growth's empty slots weigh more where keys are few.
const HOMES_SMALL_MAX: usize = 512;
/// A table is grown when more than nine in ten of its homes' number are occupied.
const LOAD_TENTHS_MAX: usize = 9;

/// Slots behind the last home, so that probing never wraps round; more are added when a run passes them.
const fn spill_slots(homes: usize) -> usize {
    let share = homes / 64;
    if share < 2 {
        2
    } else if share > 16 {
        16
    } else {
        share
    }
}

/// The homes of a table after its growth.
const fn grown(homes: usize) -> usize {
    if homes < HOMES_MIN {
        HOMES_MIN
    } else if homes < HOMES_SMALL_MAX {
        homes + homes / 16 + 1
    } else {
        homes + homes / 8
    }
}

/// Which slots behind the home are loaded beforehand: in a table that is nearly full a key lies some three slots behind, and
/// many further; each of these is most likely on a line of its own of the processor's cache.
const FORESEEN_SLOTS: [usize; 3] = [0, 3, 6];

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    homes: usize,
    len: usize,
    /// Entries with a hint's token, and those of them that are no tombstones.
    hint_entries: u32,
    hints: u32,
    /// Entries of keys that are tombstones.
    tombstones: u32,
}

/// A shard's index.
pub struct Index {
    tables: Vec<Table>,
    slices: Slices,
    shard: ShardIndex,
    len: usize,
    tombstones: usize,
    hint_entries: usize,
    hints: usize,
    slot_count: usize,
}

impl Table {
    fn home(&self, fraction: u64) -> usize {
        ((u128::from(fraction) * self.homes as u128) >> 64) as usize
    }

    /// The slot of a key, or the one that it would be put at.
    fn find(&self, fraction: u64, token: u64, tag15: u16) -> Result<usize, usize> {
        let mut at = self.home(fraction);
        for slot in &self.slots[at.min(self.slots.len())..] {
            if slot.is_empty() || slot.token > token {
                return Err(at);
            }
            if slot.is_of(token, tag15) {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    fn occupied(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.iter().filter(|slot| !slot.is_empty()).copied()
    }

    /// Puts a new slot in its order.
    fn insert(&mut self, fraction: u64, slot: Slot) {
        let mut at = self.home(fraction);
        while self
            .slots
            .get(at)
            .is_some_and(|held| !held.is_empty() && held.token <= slot.token)
        {
            at += 1;
        }
        let run = self.slots.get(at..).unwrap_or(&[]);
        let empty = match run.iter().position(Slot::is_empty) {
            Some(steps) => at + steps,
            None => {
                let end = self.slots.len();
                self.extend_spill();
                end
            }
        };
        self.slots.copy_within(at..empty, at + 1);
        self.slots[at] = slot;
        self.len += 1;
    }

    /// How many more slots behind the last home are added at once: a share of those that are there already, so that a
    /// long run costs few moves.
    fn spill_more(&self) -> usize {
        ((self.slots.len() - self.homes) / 8).max(2)
    }

    fn extend_spill(&mut self) {
        let more = self.spill_more();
        self.slots.reserve_exact(more);
        self.slots.resize(self.slots.len() + more, Slot::default());
    }
}

impl Index {
    /// An empty index of one shard.
    pub fn new(slices: Slices, shard: ShardIndex) -> Self {
        let tables = (0..slices.partitions()).map(|_| Table::default()).collect();
        Self {
            tables,
            slices,
            shard,
            len: 0,
            tombstones: 0,
            hint_entries: 0,
            hints: 0,
            slot_count: 0,
        }
    }

    fn table_of(&self, token: Token) -> usize {
        self.slices.partition_of(token).0 as usize
    }

    /// A token's place within this shard's slice of its partition, as a fraction of 2^64.
    fn fraction(&self, token: Token) -> u64 {
        self.slices.within_slice(token, self.shard)
    }

    /// What is known of a key.
    pub fn get(&self, token: Token, tag15: u16) -> Option<Entry> {
        let table = &self.tables[self.table_of(token)];
        let at = table.find(self.fraction(token), token.0, tag15).ok()?;
        Some(table.slots[at].entry())
    }

    /// Loads what a look for the key will need, without waiting for it: with many keys the slot is in no cache, and the
    /// processor fetches several at once when they are asked for one behind the other.
    pub fn foresee(&self, token: Token) {
        let table = &self.tables[self.table_of(token)];
        let home = table.home(self.fraction(token));
        let place = |behind: usize| table.slots.get(home + behind).map(|slot| slot.place);
        core::hint::black_box(FORESEEN_SLOTS.map(place));
    }

    /// Where a key of this token has its record, most likely: the first of those that share it.
    pub fn guess(&self, token: Token) -> Option<Place> {
        let table = &self.tables[self.table_of(token)];
        let run = table.slots.get(table.home(self.fraction(token))..)?;
        let slot = run
            .iter()
            .find(|slot| slot.is_empty() || slot.token >= token.0)?;
        (slot.token == token.0 && !slot.is_empty()).then_some(Place(slot.place))
    }

    /// Sets what is known of a key; returns what was.
    pub fn put(&mut self, token: Token, tag15: u16, entry: Entry) -> Option<Entry> {
        assert!(entry.place.0 != 0, "no record lies at place 0");
        assert!(
            entry.place.tag15() == tag15,
            "the place carries the key's tag"
        );
        let fraction = self.fraction(token);
        let number = self.table_of(token);
        let slot = Slot {
            token: token.0,
            fingerprint: entry.fingerprint,
            place: entry.place.0,
        };
        if let Ok(at) = self.tables[number].find(fraction, token.0, tag15) {
            let former = core::mem::replace(&mut self.tables[number].slots[at], slot);
            self.uncount(number, &former);
            self.count(number, &slot);
            return Some(former.entry());
        }
        let table = &self.tables[number];
        let capacity = table.slots.capacity();
        if table.len * 10 >= table.homes * LOAD_TENTHS_MAX {
            let homes = grown(table.homes);
            self.tables[number] = self.laid_out(homes, table.occupied());
        }
        self.tables[number].insert(fraction, slot);
        self.count(number, &slot);
        self.slot_count = self.slot_count + self.tables[number].slots.capacity() - capacity;
        self.len += 1;
        None
    }

    fn count(&mut self, number: usize, slot: &Slot) {
        if slot.is_hint() {
            self.hint_entries += 1;
            self.hints += usize::from(!slot.is_tombstone());
            let table = &mut self.tables[number];
            table.hint_entries += 1;
            table.hints += u32::from(!slot.is_tombstone());
        } else {
            self.tombstones += usize::from(slot.is_tombstone());
            self.tables[number].tombstones += u32::from(slot.is_tombstone());
        }
    }

    fn uncount(&mut self, number: usize, slot: &Slot) {
        if slot.is_hint() {
            self.hint_entries -= 1;
            self.hints -= usize::from(!slot.is_tombstone());
            let table = &mut self.tables[number];
            table.hint_entries -= 1;
            table.hints -= u32::from(!slot.is_tombstone());
        } else {
            self.tombstones -= usize::from(slot.is_tombstone());
            self.tables[number].tombstones -= u32::from(slot.is_tombstone());
        }
    }

    /// Moves a key's place, if it is still the expected one.
    pub fn replace_place(
        &mut self,
        token: Token,
        tag15: u16,
        expected: Place,
        place: Place,
    ) -> bool {
        match self.get(token, tag15) {
            Some(entry) if entry.place == expected => {
                self.put(token, tag15, Entry { place, ..entry });
                true
            }
            Some(_) | None => false,
        }
    }

    /// Forgets a key; returns what was known of it.
    pub fn remove(&mut self, token: Token, tag15: u16) -> Option<Entry> {
        let number = self.table_of(token);
        let at = self.tables[number]
            .find(self.fraction(token), token.0, tag15)
            .ok()?;
        let former = self.tables[number].slots[at].entry();
        self.remove_at(number, at);
        Some(former)
    }

    fn remove_at(&mut self, number: usize, at: usize) {
        let former = self.tables[number].slots[at];
        // Shift back what follows, up to the first that is at its home.
        let mut hole = at;
        loop {
            let table = &self.tables[number];
            let Some(next) = table
                .slots
                .get(hole + 1)
                .copied()
                .filter(|slot| !slot.is_empty())
            else {
                break;
            };
            if table.home(self.fraction(Token(next.token))) > hole {
                break;
            }
            self.tables[number].slots[hole] = next;
            hole += 1;
        }
        self.tables[number].slots[hole] = Slot::default();
        self.tables[number].len -= 1;
        self.len -= 1;
        self.uncount(number, &former);
    }

    /// Removes every entry for which `is_gone` says so; returns how many.
    pub fn remove_where(&mut self, mut is_gone: impl FnMut(Token, Entry) -> bool) -> usize {
        let before = self.len;
        for number in 0..self.tables.len() {
            let mut at = 0;
            while at < self.tables[number].slots.len() {
                let slot = self.tables[number].slots[at];
                if !slot.is_empty() && is_gone(Token(slot.token), slot.entry()) {
                    self.remove_at(number, at);
                } else {
                    at += 1;
                }
            }
        }
        before - self.len
    }

    /// A table of so many homes that holds these slots, which are in token order: one pass.
    fn laid_out(&self, homes: usize, slots: impl Iterator<Item = Slot>) -> Table {
        // Written once, from front to back: a start does this for every key.
        let mut table = Table {
            slots: Vec::with_capacity(homes + spill_slots(homes)),
            homes,
            ..Table::default()
        };
        for slot in slots {
            if slot.is_hint() {
                table.hint_entries += 1;
                table.hints += u32::from(!slot.is_tombstone());
            } else {
                table.tombstones += u32::from(slot.is_tombstone());
            }
            let home = table.home(self.fraction(Token(slot.token)));
            while table.slots.len() < home {
                table.slots.push(Slot::default());
            }
            if table.slots.len() == table.slots.capacity() {
                table.slots.reserve_exact(table.spill_more());
            }
            table.slots.push(slot);
            table.len += 1;
        }
        table.slots.resize(table.slots.capacity(), Slot::default());
        table
    }

    /// Loads a partition's entries, which are in token order, into its empty table.
    pub fn load(&mut self, partition: PartitionId, entries: &[(Token, Entry)]) {
        let number = partition.0 as usize;
        assert!(self.tables[number].len == 0, "loaded once");
        // As full as a table that has grown to this on average.
        let homes = (entries.len() + entries.len() / 6 + 1).max(HOMES_MIN);
        let slots = entries.iter().map(|(token, entry)| Slot {
            token: token.0,
            fingerprint: entry.fingerprint,
            place: entry.place.0,
        });
        let former_capacity = self.tables[number].slots.capacity();
        let table = self.laid_out(homes, slots);
        self.slot_count = self.slot_count + table.slots.capacity() - former_capacity;
        self.len += table.len;
        self.hint_entries += table.hint_entries as usize;
        self.hints += table.hints as usize;
        self.tombstones += entries
            .iter()
            .filter(|(token, entry)| entry.place.is_tombstone() && !token.is_hint())
            .count();
        self.tables[number] = table;
    }

    /// How many entries there are: keys, tombstones and hints.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are tombstones of keys.
    pub const fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// How many keys have a value.
    pub const fn values(&self) -> usize {
        self.len - self.tombstones - self.hint_entries
    }

    /// How many hints are to be delivered.
    pub const fn hints(&self) -> usize {
        self.hints
    }

    /// How many hints of a partition are to be delivered.
    pub fn hints_of(&self, partition: PartitionId) -> u32 {
        self.tables
            .get(partition.0 as usize)
            .map_or(0, |table| table.hints)
    }

    /// How many keys of a partition are known, tombstones among them, hints not.
    pub fn keys_of(&self, partition: PartitionId) -> u64 {
        self.tables
            .get(partition.0 as usize)
            .map_or(0, |table| table.len as u64 - u64::from(table.hint_entries))
    }

    /// How many keys of a partition have a value.
    pub fn values_of(&self, partition: PartitionId) -> u64 {
        let tombstones = |table: &Table| u64::from(table.tombstones);
        let table = self.tables.get(partition.0 as usize);
        self.keys_of(partition) - table.map_or(0, tombstones)
    }

    /// Forgets a partition's keys, tombstones too, and keeps its hints; `each` is told what was forgotten.
    pub fn drop_keys(&mut self, partition: PartitionId, mut each: impl FnMut(Token, Entry)) {
        let number = partition.0 as usize;
        let Some(table) = self.tables.get(number) else {
            return;
        };
        let kept: Vec<Slot> = table.occupied().filter(Slot::is_hint).collect();
        for slot in table.occupied().filter(|slot| !slot.is_hint()) {
            each(Token(slot.token), slot.entry());
        }
        let gone = table.len - kept.len();
        let tombstones = table
            .occupied()
            .filter(|slot| slot.is_tombstone() && !slot.is_hint())
            .count();
        let former_capacity = table.slots.capacity();
        let homes = kept.len() + kept.len() / 6 + 1;
        let table = if kept.is_empty() {
            Table::default()
        } else {
            self.laid_out(homes.max(HOMES_MIN), kept.into_iter())
        };
        self.slot_count = self.slot_count + table.slots.capacity() - former_capacity;
        self.tables[number] = table;
        self.len -= gone;
        self.tombstones -= tombstones;
    }

    /// The entries from a token of this shard's slice on, to the end of the token's partition, in token order.
    pub fn partition_from(&self, first: Token) -> impl Iterator<Item = (Token, Entry)> + '_ {
        let table = &self.tables[self.table_of(first)];
        let at = table.home(self.fraction(first)).min(table.slots.len());
        table.slots[at..]
            .iter()
            .filter(move |slot| !slot.is_empty() && slot.token >= first.0)
            .map(|slot| (Token(slot.token), slot.entry()))
    }

    /// RAM in use.
    pub const fn memory_bytes(&self) -> usize {
        self.slot_count * size_of::<Slot>() + self.tables.len() * size_of::<Table>()
    }

    /// The entries of a partition in token order.
    pub fn partition_entries(
        &self,
        partition: PartitionId,
    ) -> impl Iterator<Item = (Token, Entry)> + '_ {
        let table = self.tables.get(partition.0 as usize);
        let slots = table.map_or(&[][..], |table| &table.slots);
        slots
            .iter()
            .filter(|slot| !slot.is_empty())
            .map(|slot| (Token(slot.token), slot.entry()))
    }

    /// The entries after a token, whoever's it is (from the first on without one), in token order.
    pub fn scan_after(&self, after: Option<Token>) -> impl Iterator<Item = (Token, Entry)> + '_ {
        let slice_of = |token| {
            self.slices
                .slice(self.slices.partition_of(token), self.shard)
        };
        let (first, from) = match after {
            None => (0, 0),
            Some(token) if token < slice_of(token).0 => (self.table_of(token), 0),
            Some(token) if token > slice_of(token).1 => (self.table_of(token) + 1, 0),
            Some(token) => {
                let number = self.table_of(token);
                let table = &self.tables[number];
                let mut at = table.home(self.fraction(token)).min(table.slots.len());
                while table
                    .slots
                    .get(at)
                    .is_some_and(|slot| !slot.is_empty() && slot.token <= token.0)
                {
                    at += 1;
                }
                (number, at)
            }
        };
        let rest = self
            .tables
            .get(first)
            .map_or(&[][..], |table| &table.slots[from.min(table.slots.len())..]);
        let later = self
            .tables
            .iter()
            .skip(first + 1)
            .flat_map(|table| table.slots.iter());
        rest.iter()
            .chain(later)
            .filter(|slot| !slot.is_empty())
            .map(|slot| (Token(slot.token), slot.entry()))
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
