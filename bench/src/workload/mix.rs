//! Verbs and how often each comes.
//!
//! Owns the shares. Never decides a key.
//!
//! Invariants: shares are not negative and their sum is above zero; they are normalised once, when the mix is made.

use rand::{Rng, RngExt};

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Read one key.
    Read,
    /// Write one existing key whole.
    Write,
    /// Write a key that was not there before.
    Insert,
    /// Delete one key.
    Delete,
    /// Read one key, then write it: one operation, timed as a whole.
    Update,
    /// Read a run of keys.
    Scan,
}

impl Verb {
    /// All verbs, in the order of their indexes.
    pub const ALL: [Verb; 6] = [
        Verb::Read,
        Verb::Write,
        Verb::Insert,
        Verb::Delete,
        Verb::Update,
        Verb::Scan,
    ];

    /// A dense number for tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Insert => "insert",
            Verb::Delete => "delete",
            Verb::Update => "update",
            Verb::Scan => "scan",
        }
    }
}

/// The shares of the verbs; any scale, only their ratios matter.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mix {
    /// Share of reads.
    pub read: f64,
    /// Share of writes.
    pub write: f64,
    /// Share of inserts.
    pub insert: f64,
    /// Share of deletes.
    pub delete: f64,
    /// Share of updates.
    pub update: f64,
    /// Share of scans.
    pub scan: f64,
}

impl Mix {
    /// Reads and writes only.
    pub const fn read_write(read: f64, write: f64) -> Mix {
        Mix {
            read,
            write,
            insert: 0.0,
            delete: 0.0,
            update: 0.0,
            scan: 0.0,
        }
    }

    fn shares(&self) -> [f64; 6] {
        [
            self.read,
            self.write,
            self.insert,
            self.delete,
            self.update,
            self.scan,
        ]
    }

    /// Why these shares cannot be used, if they cannot.
    pub fn problem(&self) -> Option<String> {
        let shares = self.shares();
        if let Some(bad) = shares
            .iter()
            .find(|share| !(**share >= 0.0 && share.is_finite()))
        {
            return Some(format!(
                "a share of the mix is {bad}; shares are numbers from 0"
            ));
        }
        (shares.iter().sum::<f64>() <= 0.0).then(|| {
            "the mix has no operation: give read, write, insert, delete, update or scan a share"
                .to_owned()
        })
    }

    /// The share of `verb`, 0 to 1.
    pub fn share(&self, verb: Verb) -> f64 {
        self.shares()[verb.index()] / self.shares().iter().sum::<f64>()
    }
}

/// Draws verbs.
#[derive(Debug, Clone)]
pub struct VerbChooser {
    cumulative: [f64; 6],
}

impl VerbChooser {
    /// A chooser for a mix without a problem.
    pub fn new(mix: &Mix) -> Self {
        let mut sum = 0.0;
        VerbChooser {
            cumulative: Verb::ALL.map(|verb| {
                sum += mix.share(verb);
                sum
            }),
        }
    }

    /// The next verb.
    pub fn choose<R: Rng>(&self, rng: &mut R) -> Verb {
        let uniform: f64 = rng.random::<f64>() * self.cumulative[5];
        let index = self
            .cumulative
            .iter()
            .position(|edge| uniform < *edge)
            .unwrap_or(0);
        Verb::ALL[index]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn verbs_come_in_their_shares() {
        let chooser = VerbChooser::new(&Mix {
            read: 8.0,
            delete: 2.0,
            ..Mix::default()
        });
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let deletes = (0..100_000)
            .filter(|_| chooser.choose(&mut rng) == Verb::Delete)
            .count();
        assert!(
            (19_500..20_500).contains(&deletes),
            "{deletes} deletes of 100,000"
        );
    }

    #[test]
    fn a_mix_of_nothing_or_of_nonsense_is_refused() {
        assert!(Mix::default().problem().is_some());
        assert!(Mix::read_write(-1.0, 2.0).problem().is_some());
        assert!(Mix::read_write(f64::NAN, 1.0).problem().is_some());
    }
}
