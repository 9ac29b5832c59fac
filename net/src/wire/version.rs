//! Which versions of the protocol are spoken here, and how far a newer one may go without being a new version.
//!
//! Owns the range of versions and what two sides make of theirs. Never decides what a message means.
//!
//! Within a version frames grow by these rules, so that an older node and a newer one, or a client, understand each other:
//! - **Body.** A new field is added at the end of its kind's body. What is longer than is known is read as far as it is
//!   known; what is shorter, from an older one, has zeroes for the rest, so zero must mean "as before". A body that lies
//!   within another, or in a list, never grows; the ring's archive neither, what is new about it goes into its tail.
//! - **Flags.** An unknown one is ignored, but for those of `MUST_UNDERSTAND`: whoever does not know one of them leaves
//!   the whole frame alone.
//! - **Words** (a number that stands for an operation, a rule, an outcome). An unknown one is like a flag that must be
//!   understood. That of an error is told with its text.
//! - **Tail.** What follows its known parts is skipped. Where the last part is as long as the rest of the frame (objects,
//!   values, lists), nothing can follow.
//! - **Kinds.** Between nodes an unknown one is passed over by its length; messages may be lost anyway. A client's ends its
//!   connection with an error.
//!
//! A frame that is left alone so is counted and said once a connection, or answered with an error where someone waits for
//! an answer; the connection goes on. What cannot be said under these rules, and what would be wrong if it were skipped,
//! is a new version.
//!
//! **Versions.** A hello is always a frame of version 1 and has the least and the greatest version of its sender. The
//! greatest that both speak is spoken; where there is none the connection is refused with a line that names all four. So
//! each release speaks the versions of the one before it, and nodes are brought up to date one after the other.
//!
//! Whoever opens a connection does not wait for the answer to its hello: what it sends until then must be of a version that
//! the other side reads in any case. Every frame is of the least version spoken here, which is the only one.

/// Bits that whoever does not know must not read over, in each byte of flags; the two highest in wider ones.
pub(super) const MUST_UNDERSTAND: u8 = 0xc0;

/// The same of 16 flags.
pub(super) const MUST_UNDERSTAND_16: u16 = 0xc000;

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The least.
    pub min: u8,
    /// The greatest.
    pub max: u8,
}

impl Versions {
    /// What is spoken here.
    pub const OWN: Self = Self { min: 1, max: 1 };

    /// Whether a frame of this version is read here.
    pub const fn contains(self, version: u8) -> bool {
        self.min <= version && version <= self.max
    }

    /// The version that two sides speak: the greatest that both know.
    ///
    /// # Errors
    /// What to say to whoever set them up, where there is none.
    pub fn spoken_with(self, other: Self) -> Result<u8, String> {
        // One that says no minimum speaks everything up to its maximum.
        let version = self.max.min(other.max);
        if version >= self.min && version >= other.min && version > 0 {
            return Ok(version);
        }
        let older = if self.max < other.max {
            "this side"
        } else {
            "the other side"
        };
        Err(format!(
            "this side speaks the protocol's versions {} to {}, the other side {} to {}: none in common; bring {older} up to \
             date, by way of a release between where there are several",
            self.min, self.max, other.min, other.max
        ))
    }
}

// A frame that follows a hello at once is written before it is known which versions the other side speaks. A release with two
// must write what it sends before the answer by the lesser, hold it back where the other side may begin at the greater, and write
// hellos by version 1 for ever.
const _: () = assert!(Versions::OWN.min == 1 && Versions::OWN.max == 1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn versions(min: u8, max: u8) -> Versions {
        Versions { min, max }
    }

    #[test]
    fn the_greatest_common_version_is_spoken_and_both_sides_find_the_same() {
        let common = [
            (versions(1, 1), versions(1, 1), 1),
            (versions(1, 1), versions(1, 3), 1),
            (versions(2, 4), versions(3, 9), 4),
            (versions(1, 2), versions(0, 1), 1),
        ];
        for (left, right, spoken) in common {
            assert_eq!(left.spoken_with(right), Ok(spoken));
            assert_eq!(right.spoken_with(left), Ok(spoken));
        }
    }

    #[test]
    fn without_a_common_version_the_line_names_all_four_and_who_is_the_older() {
        for (own, other, older) in [
            (versions(1, 2), versions(3, 4), "bring this side"),
            (versions(3, 4), versions(1, 2), "bring the other side"),
            (versions(1, 1), versions(0, 0), "bring the other side"),
        ] {
            let why = own.spoken_with(other).expect_err("nothing in common");
            let said = format!("{} to {}", own.min, own.max);
            let heard = format!("{} to {}", other.min, other.max);
            assert!(
                why.contains(&said) && why.contains(&heard) && why.contains(older),
                "{why}"
            );
        }
    }
}
