//! Buckets: their rules as cluster state, changed by an operator while everything runs.
//!
//! Each bucket's rules carry the time and place at which they were set; a merge takes the later. What a node's own
//! configuration says has the time zero: it holds until anyone sets the bucket.
//!
//! Invariants: merge is commutative, associative and idempotent; `default` is always there; rules that say more than this
//! version understands are handed on as they came, and until it is brought up to date it goes by what loses nothing.

use std::collections::BTreeMap;

use crate::base::durability::Durability;
use crate::base::ids::NodeId;
use crate::base::limits::{BUCKET_BYTES_MAX, BUCKET_DEFAULT, REPLICAS_DEFAULT, REPLICAS_MAX};
use crate::base::time::Hlc;
use crate::ring::bytes::{Reader, RingBytesError, Writer};
use crate::ring::{BucketView, Stamp};
use crate::version::{BlindPut, Conflict};

/// More buckets than this are refused.
pub(super) const BUCKETS_MAX: usize = 1_024;

/// One bucket's rules, and when they were set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    stamp: Stamp,
    rules: BucketView,
    /// As they came, where that says more than `rules`.
    as_came: Option<Vec<u8>>,
}

impl Rules {
    const fn new(stamp: Stamp, rules: BucketView) -> Self {
        Self {
            stamp,
            rules,
            as_came: None,
        }
    }
}

/// All buckets.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Buckets {
    by_name: BTreeMap<Vec<u8>, Rules>,
}

/// The rules that hold unless anyone says otherwise.
pub(super) fn usual(name: &[u8]) -> BucketView {
    BucketView {
        name: name.to_vec(),
        n: REPLICAS_DEFAULT,
        r: 2,
        w: 2,
        durability: Durability::Buffered,
        conflict: Conflict::Siblings,
        blind_put: BlindPut::Latest,
        ttl_ms: None,
    }
}

impl Buckets {
    /// Those of a configuration, and `default`.
    pub(super) fn of_configuration(buckets: &[BucketView]) -> Self {
        let mut made = Self::default();
        for rules in core::iter::once(&usual(BUCKET_DEFAULT)).chain(buckets) {
            made.by_name.insert(
                rules.name.clone(),
                Rules::new(Stamp::default(), rules.clone()),
            );
        }
        made
    }

    /// Sets a bucket's rules; returns whether there was room.
    pub(super) fn set(&mut self, rules: BucketView, stamp: Stamp) -> bool {
        let is_room = self.by_name.len() < BUCKETS_MAX || self.by_name.contains_key(&rules.name);
        if is_room {
            self.by_name
                .insert(rules.name.clone(), Rules::new(stamp, rules));
        }
        is_room
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&BucketView> {
        Some(&self.by_name.get(name)?.rules)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &BucketView> {
        self.by_name.values().map(|rules| &rules.rules)
    }

    /// The most replicas that any of them wants.
    pub(super) fn n_max(&self) -> u8 {
        self.iter().map(|rules| rules.n).max().unwrap_or(1)
    }

    /// Takes the later of each; returns whether anything changed.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (name, theirs) in &other.by_name {
            let is_news = match self.by_name.get(name) {
                None => self.by_name.len() < BUCKETS_MAX,
                // The content decides between equal stamps only, so that even then all agree.
                Some(own) => key(theirs) > key(own),
            };
            if is_news {
                self.by_name.insert(name.clone(), theirs.clone());
                changed = true;
            }
        }
        changed
    }

    /// Equal content, equal hash.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut out = Writer::default();
        self.encode(&mut out);
        xxhash_rust::xxh3::xxh3_64(&out.finish())
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        out.count(self.by_name.len());
        for rules in self.by_name.values() {
            out.record(|out| encode_rules(out, rules));
        }
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Result<Self, RingBytesError> {
        let count = from.count("buckets", BUCKETS_MAX, 4 + 16)?;
        let mut buckets = Self::default();
        for _ in 0..count {
            let rules = decode_rules(from.record()?.all())?;
            buckets.by_name.insert(rules.rules.name.clone(), rules);
        }
        Ok(buckets)
    }
}

fn key(rules: &Rules) -> (Stamp, Vec<u8>) {
    let mut out = Writer::default();
    encode_rules(&mut out, rules);
    (rules.stamp, out.finish())
}

fn encode_rules(
    out: &mut Writer,
    Rules {
        stamp,
        rules,
        as_came,
    }: &Rules,
) {
    if let Some(bytes) = as_came {
        return out.raw(bytes);
    }
    out.u64(stamp.hlc.0);
    out.u64(stamp.node.0);
    out.bytes(&rules.name);
    out.u8(rules.n);
    out.u8(rules.r);
    out.u8(rules.w);
    out.u8(match rules.durability {
        Durability::Buffered => 0,
        Durability::One => 1,
        Durability::All => 2,
    });
    out.u8(match rules.conflict {
        Conflict::Siblings => 0,
        Conflict::Lww => 1,
        Conflict::Reject => 2,
    });
    out.u8(match rules.blind_put {
        BlindPut::Latest => 0,
        BlindPut::Supersede => 1,
        BlindPut::Sibling => 2,
        BlindPut::Reject => 3,
    });
    out.u8(u8::from(rules.ttl_ms.is_some()));
    out.u64(rules.ttl_ms.unwrap_or(0));
}

/// What a bucket's rules may come to, with all that later versions add.
const RULES_BYTES_MAX: usize = BUCKET_BYTES_MAX + 1_024;

fn decode_rules(bytes: &[u8]) -> Result<Rules, RingBytesError> {
    if bytes.len() > RULES_BYTES_MAX {
        return Err(RingBytesError::TooMany { name: "rules" });
    }
    let mut from = Reader::new(bytes);
    let wrong = |name| RingBytesError::Field { name };
    let stamp = Stamp {
        hlc: Hlc(from.u64()?),
        node: NodeId(from.u64()?),
    };
    let name = from.bytes()?.to_vec();
    if name.is_empty() || name.len() > BUCKET_BYTES_MAX {
        return Err(wrong("bucket name"));
    }
    let (n, r, w) = (from.u8()?, from.u8()?, from.u8()?);
    if !are_numbers_right(n, r, w) {
        return Err(wrong("n, r, w"));
    }
    let durability = match from.u8()? {
        0 => Durability::Buffered,
        1 => Durability::One,
        // Also what a later version knows: the most that there is here.
        _ => Durability::All,
    };
    let conflict = match from.u8()? {
        1 => Conflict::Lww,
        2 => Conflict::Reject,
        _ => Conflict::Siblings,
    };
    let blind_put = match from.u8()? {
        0 => BlindPut::Latest,
        1 => BlindPut::Supersede,
        3 => BlindPut::Reject,
        _ => BlindPut::Sibling,
    };
    let (has_ttl, ttl_ms) = (from.u8()?, from.u64()?);
    let rules = BucketView {
        name,
        n,
        r,
        w,
        durability,
        conflict,
        blind_put,
        ttl_ms: (has_ttl != 0).then_some(ttl_ms),
    };
    let mut rules = Rules::new(stamp, rules);
    let mut understood = Writer::default();
    encode_rules(&mut understood, &rules);
    rules.as_came = (understood.finish() != bytes).then(|| bytes.to_vec());
    Ok(rules)
}

/// Whether a bucket may have these numbers.
pub(super) fn are_numbers_right(n: u8, r: u8, w: u8) -> bool {
    (1..=REPLICAS_MAX).contains(&n) && (1..=n).contains(&r) && (1..=n).contains(&w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(name: u8, hlc: u64, n: u8, ttl_ms: Option<u64>) -> Buckets {
        let mut buckets = Buckets::of_configuration(&[]);
        let rules = BucketView {
            n,
            r: 1,
            w: 1,
            ttl_ms,
            ..usual(&[b'a' + name])
        };
        let stamp = Stamp {
            hlc: Hlc(hlc),
            node: NodeId(1),
        };
        assert!(buckets.set(rules, stamp));
        buckets
    }

    fn any_buckets() -> impl Strategy<Value = Buckets> {
        (0u8..2, 0u64..3, 1u8..4, any::<Option<u64>>())
            .prop_map(|(name, hlc, n, ttl_ms)| some(name, hlc, n, ttl_ms))
    }

    fn joined(left: &Buckets, right: &Buckets) -> Buckets {
        let mut joined = left.clone();
        joined.merge(right);
        joined
    }

    proptest! {
        #[test]
        fn merge_is_a_join(a in any_buckets(), b in any_buckets(), c in any_buckets()) {
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&a, &a), a);
        }

        #[test]
        fn bytes_return_the_same(a in any_buckets()) {
            let mut out = Writer::default();
            a.encode(&mut out);
            let bytes = out.finish();
            prop_assert_eq!(Buckets::decode(&mut Reader::new(&bytes)), Ok(a));
        }
    }

    /// Rules as a later version would write them.
    fn of_a_later_version(words: [u8; 3], more: &[u8]) -> Vec<u8> {
        let rules = usual(b"a");
        let stamp = Stamp {
            hlc: Hlc(7),
            node: NodeId(1),
        };
        let mut record = Writer::default();
        encode_rules(&mut record, &Rules::new(stamp, rules));
        let mut record = record.finish();
        let words_at = record.len() - 9 - words.len();
        record[words_at..words_at + words.len()].copy_from_slice(&words);
        record.extend_from_slice(more);
        let mut out = Writer::default();
        out.count(1);
        out.bytes(&record);
        out.finish()
    }

    #[test]
    fn rules_of_a_later_version_are_handed_on_as_they_came_and_nothing_is_lost_by_them() {
        for (words, more) in [
            ([9, 9, 9], b"new".as_slice()),
            ([0, 1, 0], b"new"),
            ([0, 9, 1], b""),
        ] {
            let bytes = of_a_later_version(words, more);
            let theirs = Buckets::decode(&mut Reader::new(&bytes)).expect("they are read");
            let rules = theirs.get(b"a").expect("there").clone();
            if words == [9, 9, 9] {
                assert_eq!(rules.durability, Durability::All);
                assert_eq!(rules.conflict, Conflict::Siblings);
                assert_eq!(rules.blind_put, BlindPut::Sibling);
            }
            // By way of a node of this version to a third.
            let mut own = some(0, 1, 3, None);
            assert!(own.merge(&theirs));
            let mut out = Writer::default();
            own.encode(&mut out);
            let handed_on = out.finish();
            assert!(
                handed_on
                    .windows(bytes.len() - 4)
                    .any(|part| part == &bytes[4..])
            );
            assert_eq!(
                Buckets::decode(&mut Reader::new(&handed_on)),
                Ok(own.clone())
            );
            assert!(!own.merge(&theirs), "it is the same then");
            // What an operator sets here is of this version.
            let stamp = Stamp {
                hlc: Hlc(8),
                node: NodeId(2),
            };
            assert!(own.set(rules, stamp));
            assert!(own.by_name.values().all(|rules| rules.as_came.is_none()));
        }
    }

    #[test]
    fn what_an_operator_sets_goes_before_what_a_configuration_says() {
        let mut set = some(0, 1, 3, None);
        let configured = Buckets::of_configuration(&[BucketView {
            n: 5,
            ..usual(b"a")
        }]);
        assert!(!set.merge(&configured));
        assert_eq!(set.get(b"a").map(|rules| rules.n), Some(3));
    }
}
