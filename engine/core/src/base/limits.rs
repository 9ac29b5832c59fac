//! Every bound of the shard in one place, each with what happens when it is reached.

/// A key's greatest length. Longer: the request is refused (`TooLarge`), at the client's edge only.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// A value's greatest length that any configuration may allow. Longer: refused at the client's edge only; what was
/// once accepted always replicates.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// A value's greatest length unless configured otherwise.
pub const VALUE_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// What a key's siblings may have together, where they are several; an eighth of a segment where that is less. A put that
/// would make more of them is refused (`TooLarge`) until somebody has read and merged them; at the client's edge only.
pub const SIBLINGS_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// A bucket name's greatest length. Longer: refused.
pub const BUCKET_BYTES_MAX: usize = 255;

/// A context's greatest length as opaque bytes. The oldest vector entries are dropped beyond it, and counted.
pub const CONTEXT_BYTES_MAX: usize = 2 << 10;

/// A context's greatest number of vector entries as opaque bytes. The oldest are dropped beyond it, and counted.
pub const CONTEXT_ENTRIES_MAX: usize = 64;

/// The greatest number of shards of a node.
pub const SHARDS_MAX: u16 = 1024;

/// The bucket that always exists.
pub const BUCKET_DEFAULT: &[u8] = b"default";

/// Partitions of a new cluster unless configured otherwise.
pub const PARTITIONS_DEFAULT: u32 = 1024;

/// The greatest number of partitions.
pub const PARTITIONS_MAX: u32 = 65_536;

/// The greatest age, by the clocks of sender and receiver, of a message that carries an object. Older: dropped, so that
/// no object arrives after its tombstone was forgotten.
pub const MESSAGE_AGE_MS_MAX: u64 = 30_000;

/// Forwarded writes of the last half minute that a shard remembers, some 2 MB at most. Beyond: the oldest of the sender that
/// has most are forgotten, and a frame of one that came a second time, which no connection brings, would be carried out again.
pub const FORWARDED_MAX: usize = 65_536;

/// The greatest number of node ids that a cluster ever knew, removed ones among them. Beyond: a new node is refused.
pub const MEMBERS_MAX: usize = 16_384;

/// The greatest length of a node's address, zone or name. Longer: refused by the configuration, cut in the ring.
pub const MEMBER_TEXT_BYTES_MAX: usize = 255;

/// The greatest number of replicas of a partition.
pub const REPLICAS_MAX: u8 = 16;

/// Replicas of a partition unless configured otherwise.
pub const REPLICAS_DEFAULT: u8 = 3;

const _: () = assert!(
    MEMBERS_MAX < u16::MAX as usize,
    "a layout names nodes by 16 bits"
);
const _: () = assert!(VALUE_BYTES_MAX_DEFAULT <= VALUE_BYTES_MAX);
const _: () = assert!(PARTITIONS_MAX.is_power_of_two() && PARTITIONS_DEFAULT.is_power_of_two());
