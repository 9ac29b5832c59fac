//! Semantic reconciliation: how concurrent values become one.
//!
//! Owns the trait and the ready-made merges. A merge must not depend on the order of the values but where it says so.

use std::collections::BTreeSet;

/// Makes one value of a key's concurrent values. Any `Fn(&[Vec<u8>]) -> Vec<u8>` is one.
pub trait Merge {
    /// `siblings` has the latest writer's first; empty: the key has no value.
    fn merge(&self, siblings: &[Vec<u8>]) -> Vec<u8>;
}

impl<F: Fn(&[Vec<u8>]) -> Vec<u8>> Merge for F {
    fn merge(&self, siblings: &[Vec<u8>]) -> Vec<u8> {
        self(siblings)
    }
}

/// The last writer wins; what the others wrote is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latest;

impl Merge for Latest {
    fn merge(&self, siblings: &[Vec<u8>]) -> Vec<u8> {
        siblings.first().cloned().unwrap_or_default()
    }
}

/// The greatest by its bytes (big-endian numbers, ISO dates).
#[derive(Clone, Copy, Debug, Default)]
pub struct Max;

impl Merge for Max {
    fn merge(&self, siblings: &[Vec<u8>]) -> Vec<u8> {
        siblings.iter().max().cloned().unwrap_or_default()
    }
}

/// A set of byte strings as a value: each a length (u32, little-endian) and its bytes, sorted. Siblings merge by union,
/// as Dynamo's shopping cart does: nothing that was added is lost, and a removal that was concurrent with another
/// change may come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// The members.
    pub members: BTreeSet<Vec<u8>>,
}

impl Set {
    /// The union of all siblings; one that is not a set is left out.
    pub fn union(siblings: &[Vec<u8>]) -> Self {
        let members = siblings
            .iter()
            .filter_map(|sibling| Self::from_bytes(sibling))
            .flat_map(|set| set.members)
            .collect();
        Self { members }
    }

    /// Reads a value; none when it is not a set.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut members = BTreeSet::new();
        while !bytes.is_empty() {
            let (member_bytes, rest) = bytes.split_first_chunk::<4>()?;
            let member_bytes = usize::try_from(u32::from_le_bytes(*member_bytes)).ok()?;
            let (member, rest) = rest.split_at_checked(member_bytes)?;
            members.insert(member.to_vec());
            bytes = rest;
        }
        Some(Self { members })
    }

    /// As a value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for member in &self.members {
            let member_bytes =
                u32::try_from(member.len()).expect("members are shorter than values");
            bytes.extend_from_slice(&member_bytes.to_le_bytes());
            bytes.extend_from_slice(member);
        }
        bytes
    }
}

impl Merge for Set {
    fn merge(&self, siblings: &[Vec<u8>]) -> Vec<u8> {
        let mut union = Self::union(siblings);
        union.members.extend(self.members.iter().cloned());
        union.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_merge_by_union_whatever_the_order() {
        let cart = |items: &[&str]| Set {
            members: items.iter().map(|item| item.as_bytes().to_vec()).collect(),
        };
        let (a, b) = (
            cart(&["book", "pen"]).to_bytes(),
            cart(&["pen", "mug"]).to_bytes(),
        );
        let union = cart(&["book", "mug", "pen"]);
        assert_eq!(Set::union(&[a.clone(), b.clone()]), union);
        assert_eq!(Set::default().merge(&[b, a]), union.to_bytes());
        assert_eq!(Set::from_bytes(&[1, 0, 0]), None, "a cut length");
        assert_eq!(Set::from_bytes(&[5, 0, 0, 0, 1]), None, "a cut member");
    }

    #[test]
    fn max_and_latest_choose_one_of_the_values() {
        let values = [b"b".to_vec(), b"c".to_vec(), b"a".to_vec()];
        assert_eq!(Latest.merge(&values), b"b");
        assert_eq!(Max.merge(&values), b"c");
    }
}
