//! How far the background is: what a shard tells of each kind of its work.

/// One kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkProgress {
    /// Done since the shard's start.
    pub done: u64,
    /// To be done, as far as it is known.
    pub left: u64,
    /// Thousandths a second, of late.
    pub milli_per_s: u64,
    /// How long the rest will take at this rate; none where nothing was done of late.
    pub seconds_left: Option<u64>,
}

impl WorkProgress {
    /// Of two shards, which work side by side.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            left: self.left + other.left,
            milli_per_s: self.milli_per_s + other.milli_per_s,
            seconds_left: self
                .seconds_left
                .zip(other.seconds_left)
                .map(|(own, others)| own.max(others)),
        }
    }
}

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Hints to be delivered.
    pub hints: WorkProgress,
    /// Partitions to be gained.
    pub transfers: WorkProgress,
    /// Partitions to be handed over.
    pub handovers: WorkProgress,
    /// Pairs of a partition and another replica, in this round of comparisons.
    pub comparisons: WorkProgress,
    /// Tombstones to be forgotten; those that are too young or still needed by somebody are among them.
    pub tombstones: WorkProgress,
    /// Bytes a second that the background may move now.
    pub bytes_per_s: u64,
    /// Bytes of records that it moved, in and out.
    pub bytes_moved: u64,
    /// The p99.9 of clients' requests, in microseconds.
    pub p999_us: u64,
    /// How often the background was slowed down.
    pub cuts: u64,
}

impl Progress {
    /// Of two shards.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        Self {
            hints: self.hints.beside(other.hints),
            transfers: self.transfers.beside(other.transfers),
            handovers: self.handovers.beside(other.handovers),
            comparisons: self.comparisons.beside(other.comparisons),
            tombstones: self.tombstones.beside(other.tombstones),
            bytes_per_s: self.bytes_per_s + other.bytes_per_s,
            bytes_moved: self.bytes_moved + other.bytes_moved,
            p999_us: self.p999_us.max(other.p999_us),
            cuts: self.cuts + other.cuts,
        }
    }
}
