//! Merges: how a client makes one value of several that did not see each other.

use std::collections::BTreeSet;

/// Reconciles siblings. It must not depend on anything but its input, and the order of the siblings must not matter to
/// what the result means: other clients may merge the same ones.
pub trait Merge {
    /// One value that stands for all of them; the latest is first, and there are at least two.
    fn merge(&self, siblings: &[&[u8]]) -> Vec<u8>;
}

/// Keeps the last writer's value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latest;

impl Merge for Latest {
    fn merge(&self, siblings: &[&[u8]]) -> Vec<u8> {
        siblings
            .first()
            .map_or_else(Vec::new, |value| value.to_vec())
    }
}

/// Keeps the greatest value, compared byte by byte: for numbers, write them big-endian.
#[derive(Clone, Copy, Debug, Default)]
pub struct Max;

impl Merge for Max {
    fn merge(&self, siblings: &[&[u8]]) -> Vec<u8> {
        siblings
            .iter()
            .max()
            .map_or_else(Vec::new, |value| value.to_vec())
    }
}

/// Keeps every item that any of them has: values are sets, an item a line (the shopping cart of the Dynamo paper, in
/// which an added item is never lost, and a removed one may come back).
#[derive(Clone, Copy, Debug, Default)]
pub struct Union;

impl Merge for Union {
    fn merge(&self, siblings: &[&[u8]]) -> Vec<u8> {
        let items: BTreeSet<&[u8]> = siblings
            .iter()
            .flat_map(|value| value.split(|byte| *byte == b'\n'))
            .filter(|item| !item.is_empty())
            .collect();
        items.into_iter().collect::<Vec<_>>().join(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_keeps_every_item_once_whatever_the_order() {
        let (a, b): (&[u8], &[u8]) = (b"milk\nbread", b"bread\neggs\n");
        assert_eq!(Union.merge(&[a, b]), b"bread\neggs\nmilk");
        assert_eq!(Union.merge(&[b, a]), Union.merge(&[a, b]));
        assert_eq!(Union.merge(&[b"", b""]), b"");
    }

    #[test]
    fn max_and_latest_keep_one() {
        assert_eq!(Max.merge(&[b"3", b"9", b"4"]), b"9");
        assert_eq!(Latest.merge(&[b"3", b"9"]), b"3");
    }
}
