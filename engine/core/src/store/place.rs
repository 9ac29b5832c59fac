//! Where a record lies, packed into 64 bits beside what the index must know without reading it.
//!
//! ```text
//! bits  0..40  location in units of 8 bytes: segment << (segment bits) | offset / 8
//! bits 40..47  length class (a small float: at least the true length, at most a quarter more)
//! bit  47      TOMBSTONE
//! bit  48      EXPIRES: something in the object has an expiry, so only a read tells whether the key is alive
//! bits 49..64  key tag
//! ```
//! Offset 0 of a segment is a batch header, so no place is 0.

use crate::base::ids::SegmentId;
use crate::store::format::{FLAG_EXPIRES, FLAG_TOMBSTONE, RECORD_ALIGN};

const LOCATION_BITS: u32 = 40;
const CLASS_BITS: u32 = 7;
const FLAGS_SHIFT: u32 = LOCATION_BITS + CLASS_BITS;
const TAG_SHIFT: u32 = FLAGS_SHIFT + 2;

/// The greatest number of segments of a shard. More capacity than that: it is not used; longer segments are needed.
pub const SEGMENTS_MAX: u32 = 43_000;

/// How many tags there are, and so the greatest number of entries of one token.
pub const TAGS: u32 = 1 << (64 - TAG_SHIFT);

/// The 15 bits of a key's tag that the index keeps.
pub const fn tag15(hash: u64) -> u16 {
    (hash >> TAG_SHIFT) as u16
}

/// A record's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Place(pub u64);

impl Place {
    /// Whether the record is a tombstone.
    pub const fn is_tombstone(self) -> bool {
        (self.0 >> FLAGS_SHIFT) & FLAG_TOMBSTONE as u64 != 0
    }

    /// Whether something in it expires.
    pub const fn expires(self) -> bool {
        (self.0 >> FLAGS_SHIFT) & FLAG_EXPIRES as u64 != 0
    }

    /// The key's tag.
    pub const fn tag15(self) -> u16 {
        tag15(self.0)
    }

    /// At least the record's length, at most a quarter more; the same for all records of one length.
    pub const fn bytes_upper(self) -> u32 {
        let class = ((self.0 >> LOCATION_BITS) & ((1 << CLASS_BITS) - 1)) as u32;
        // A class beyond what fits is never packed, but may be read from a disk.
        let bytes = class_units(class) * RECORD_ALIGN as u64;
        if bytes > u32::MAX as u64 {
            u32::MAX
        } else {
            bytes as u32
        }
    }
}

/// The greatest number of units of a class: a float with two bits of mantissa.
const fn class_units(class: u32) -> u64 {
    let (exponent, mantissa) = (class >> 2, (class & 3) as u64);
    if exponent == 0 {
        mantissa + 1
    } else {
        (5 + mantissa) << (exponent - 1)
    }
}

/// The least class whose records may have that many units.
const fn class_of(units: u32) -> u32 {
    if units <= 4 {
        return units.saturating_sub(1);
    }
    // (5 + mantissa) << (exponent - 1) >= units, least.
    let mut exponent = 30 - (units - 1).leading_zeros();
    if exponent == 0 {
        exponent = 1;
    }
    let step = 1 << (exponent - 1);
    let mantissa = units.div_ceil(step).saturating_sub(5);
    if mantissa > 3 {
        (exponent + 1) << 2
    } else {
        (exponent << 2) | mantissa
    }
}

/// How places are packed for one length of segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLayout {
    offset_bits: u32,
}

impl PlaceLayout {
    /// For segments of this length.
    pub const fn new(segment_bytes: u32) -> Self {
        Self {
            offset_bits: (segment_bytes as u64 / RECORD_ALIGN as u64)
                .next_power_of_two()
                .trailing_zeros(),
        }
    }

    /// How many segments a shard can have: those that can be told apart, and that a checkpoint has room to name.
    pub const fn segments_max(&self) -> u32 {
        let told_apart = 1u64 << (LOCATION_BITS - self.offset_bits);
        if told_apart > SEGMENTS_MAX as u64 {
            SEGMENTS_MAX
        } else {
            told_apart as u32
        }
    }

    /// A place.
    pub fn pack(
        &self,
        segment: SegmentId,
        offset: u32,
        bytes: u32,
        flags: u8,
        tag15: u16,
    ) -> Place {
        assert!(
            segment.0 < self.segments_max(),
            "{segment} of {}",
            self.segments_max()
        );
        assert!(
            offset.is_multiple_of(RECORD_ALIGN as u32),
            "records are aligned"
        );
        let location =
            (u64::from(segment.0) << self.offset_bits) | u64::from(offset / RECORD_ALIGN as u32);
        let class = class_of(bytes.div_ceil(RECORD_ALIGN as u32));
        let flags = u64::from(flags & (FLAG_TOMBSTONE | FLAG_EXPIRES));
        let place = location
            | (u64::from(class) << LOCATION_BITS)
            | (flags << FLAGS_SHIFT)
            | (u64::from(tag15) << TAG_SHIFT);
        Place(place)
    }

    /// The segment of a place.
    pub const fn segment(&self, place: Place) -> SegmentId {
        SegmentId(((place.0 & ((1 << LOCATION_BITS) - 1)) >> self.offset_bits) as u32)
    }

    /// The byte in the segment.
    pub const fn offset(&self, place: Place) -> u32 {
        (place.0 & ((1 << self.offset_bits) - 1)) as u32 * RECORD_ALIGN as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_every_length_and_wastes_at_most_a_quarter() {
        let mut last = 0;
        for units in (1..5000).chain((5000..20_000_000).step_by(9973)) {
            let class = class_of(units);
            let upper = class_units(class) as u32;
            assert!(class < 1 << CLASS_BITS);
            assert!(upper >= units, "{units} units in class {class} of {upper}");
            assert!(
                upper <= units + units.div_ceil(4),
                "{units} units in class {class} of {upper}"
            );
            assert!(class >= last, "classes rise");
            last = class;
        }
    }

    #[test]
    fn any_64_bits_can_be_looked_at() {
        for class in 0..1u64 << CLASS_BITS {
            assert!(Place(class << LOCATION_BITS).bytes_upper() >= 8);
        }
        assert_eq!(Place(u64::MAX).bytes_upper(), u32::MAX);
    }

    #[test]
    fn segments_of_every_length_leave_numbers_that_fit() {
        for segment_bytes in [32 << 10, 1 << 20, 100 << 20, 256 << 20, 1 << 30, u32::MAX] {
            let layout = PlaceLayout::new(segment_bytes);
            let last = SegmentId(layout.segments_max() - 1);
            let offset = (segment_bytes - 8) / 8 * 8;
            let place = layout.pack(last, offset, 8, 0, 0);
            assert_eq!(
                (layout.segment(place), layout.offset(place)),
                (last, offset)
            );
        }
    }

    #[test]
    fn what_is_packed_comes_back() {
        let layout = PlaceLayout::new(256 << 20);
        let place = layout.pack(SegmentId(4321), 123_456, 168, FLAG_EXPIRES, 0x7fff);
        assert_eq!(
            (layout.segment(place), layout.offset(place)),
            (SegmentId(4321), 123_456)
        );
        assert_eq!(
            (place.expires(), place.is_tombstone(), place.tag15()),
            (true, false, 0x7fff)
        );
        assert!(place.bytes_upper() >= 168);
        assert_eq!(layout.segments_max(), 32_768);
    }
}
