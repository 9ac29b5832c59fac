//! Sets of CPUs, in the two spellings of the kernel: lists (`0-3,8`) and masks (`ff,ffffffff`).
//!
//! Owns both parsers and both printers.
//! Never asks the machine anything.
//!
//! Invariants:
//! - a CPU number is below `CPU_MAX`: a file that says `0-4294967295` is refused, not expanded;
//! - two spellings of one set compare equal (`0,0000000f` and `f`), which a comparison of strings would miss.

use std::collections::BTreeSet;
use std::fmt;

/// Larger than any machine that Linux runs on (`CONFIG_NR_CPUS` ends at 8192).
const CPU_MAX: u32 = 8192;

/// A set of CPU numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Reads `0-3,8`; the empty string is the empty set; `None` when it is no list.
    pub fn from_list(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut set = BTreeSet::new();
        if text.is_empty() {
            return Some(Self(set));
        }
        for part in text.split(',') {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let low: u32 = low.trim().parse().ok()?;
            let high: u32 = high.trim().parse().ok()?;
            if low > high || high >= CPU_MAX {
                return None;
            }
            set.extend(low..=high);
        }
        Some(Self(set))
    }

    /// Reads a mask of hexadecimal words of 32 bits, the most significant first; `None` when it is none.
    pub fn from_mask(text: &str) -> Option<Self> {
        let mut set = BTreeSet::new();
        for (index, word) in text.trim().rsplit(',').enumerate() {
            let base = u32::try_from(index).ok()?.checked_mul(32)?;
            let bits = u32::from_str_radix(word, 16).ok()?;
            for bit in (0..32).filter(|bit| bits & (1 << bit) != 0) {
                let cpu = base.checked_add(bit)?;
                if cpu >= CPU_MAX {
                    return None;
                }
                set.insert(cpu);
            }
        }
        Some(Self(set))
    }

    /// The mask, without leading zeros, in words of 32 bits.
    pub fn to_mask(&self) -> String {
        let words = self.0.last().map_or(0, |last| last / 32);
        let mut text = String::new();
        for index in (0..=words).rev() {
            let bits = self
                .0
                .iter()
                .filter(|cpu| *cpu / 32 == index)
                .fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32));
            if text.is_empty() {
                text = format!("{bits:x}");
            } else {
                text.push_str(&format!(",{bits:08x}"));
            }
        }
        text
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The `index`-th CPU, counted round when there are fewer; `None` of the empty set.
    pub fn nth_wrapping(&self, index: usize) -> Option<u32> {
        let rest = index.checked_rem(self.count())?;
        self.0.iter().nth(rest).copied()
    }

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether every CPU of `other` is in `self`.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().filter(|cpu| *cpu < CPU_MAX).collect())
    }
}

/// Prints the list spelling.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut first = true;
        while let Some(low) = cpus.next() {
            let mut high = low;
            while let Some(next) = cpus.next_if(|next| *next == high + 1) {
                high = next;
            }
            let comma = if first { "" } else { "," };
            first = false;
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_of_one_set_are_equal() {
        let list = CpuSet::from_list("0-3,33").unwrap();
        assert_eq!(CpuSet::from_mask("00000002,0000000f").unwrap(), list);
        assert_eq!(list.to_mask(), "2,0000000f");
        assert_eq!(list.to_string(), "0-3,33");
    }

    #[test]
    fn leading_zero_words_do_not_change_a_mask() {
        assert_eq!(
            CpuSet::from_mask("00000000,0000000f"),
            CpuSet::from_mask("f")
        );
        assert_eq!(CpuSet::from_mask("0").unwrap(), CpuSet::default());
        assert_eq!(CpuSet::default().to_mask(), "0");
    }

    #[test]
    fn absurd_ranges_are_refused_not_expanded() {
        assert_eq!(CpuSet::from_list("0-4294967295"), None);
        assert_eq!(CpuSet::from_list("3-1"), None);
        assert_eq!(CpuSet::from_list("a"), None);
        assert_eq!(CpuSet::from_mask("xyz"), None);
        assert_eq!(CpuSet::from_list("\n"), Some(CpuSet::default()));
    }
}
