//! What a shard tells of itself: for `/status`, `/metrics`, `/health`.

use crate::base::ids::SegmentId;
use crate::port::Progress;
use crate::replica::stages::Stages;

/// A damaged place in the log. What was there is unknown, not absent, until it is written again or brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentId,
    /// The byte in it.
    pub offset: u64,
}

/// Whether the shard takes writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteState {
    /// Yes.
    #[default]
    Open,
    /// Deletes only: no space.
    DiskFull,
    /// None: its disk failed repeatedly.
    ReadOnly,
}

/// Counters and gauges of one shard; counters only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStatus {
    /// Whether it takes writes.
    pub writes: WriteState,
    /// Keys with a value.
    pub keys: u64,
    /// Tombstones that wait to be reaped.
    pub tombstones: u64,
    /// RAM of the index.
    pub index_bytes: u64,
    /// RAM of the log's tail.
    pub tail_bytes: u64,
    /// RAM of the value cache.
    pub cache_bytes: u64,
    /// Bytes of live records.
    pub live_bytes: u64,
    /// Bytes of the segments in use.
    pub used_bytes: u64,
    /// Bytes that the segments may take.
    pub capacity_bytes: u64,
    /// Requests that wait.
    pub requests_waiting: u64,
    /// Log bytes since the last checkpoint.
    pub checkpoint_lag_bytes: u64,
    /// Gets served.
    pub gets: u64,
    /// Puts and deletes accepted.
    pub puts: u64,
    /// Gets that needed the disk.
    pub disk_reads: u64,
    /// Group commits.
    pub commits: u64,
    /// Bytes written to the log by clients' writes.
    pub written_bytes: u64,
    /// Bytes that the cleaner copied forward.
    pub cleaned_bytes: u64,
    /// Bytes that were read at rest, to see whether they are whole.
    pub scrubbed_bytes: u64,
    /// Whole passes of that since the start.
    pub scrubs: u64,
    /// Bytes of checkpoints written.
    pub checkpoint_bytes: u64,
    /// Segments freed by the cleaner.
    pub segments_freed: u64,
    /// Tombstones reaped.
    pub tombstones_reaped: u64,
    /// Requests refused with `Overloaded`.
    pub shed: u64,
    /// Requests dropped because their deadline had passed.
    pub deadlines_missed: u64,
    /// Failed reads, and records that did not verify.
    pub read_faults: u64,
    /// Records that walks over the keys passed over, since they could not be read; each walk counts them.
    pub scan_unreadable: u64,
    /// Failed writes.
    pub write_faults: u64,
    /// Vector entries dropped from contexts that were too long.
    pub context_entries_dropped: u64,
    /// Remote times refused.
    pub clocks_refused: u64,
    /// Writes that this shard coordinated among replicas.
    pub coordinated_writes: u64,
    /// Reads that this shard coordinated among replicas.
    pub coordinated_reads: u64,
    /// Requests handed to a node that holds the key.
    pub forwarded: u64,
    /// Writes that missed their quorum.
    pub writes_in_doubt: u64,
    /// Reads that missed their quorum.
    pub reads_failed: u64,
    /// Writes that a stand-in was asked to take.
    pub stand_ins: u64,
    /// Reads that asked one more replica, since one was slow.
    pub hedges: u64,
    /// Reads whose replicas differed.
    pub digests_differed: u64,
    /// Objects that a read wrote back.
    pub read_repairs: u64,
    /// Hints kept for nodes that are away.
    pub hints_kept: u64,
    /// Hints that are to be delivered, those among them that a full disk has no room for.
    pub hints_pending: u64,
    /// Hints delivered.
    pub hints_delivered: u64,
    /// Deliveries that were refused or not answered; each is tried again.
    pub hints_failed: u64,
    /// Hints given up, since what was kept is damaged here and no replica has that version of it: acknowledged writes may be
    /// lost.
    pub hints_lost: u64,
    /// Partitions of which this shard's slice is to be brought up from others.
    pub transfers: u64,
    /// Those of them that are whole here already.
    pub transfers_done: u64,
    /// Partitions that are to be handed over to others.
    pub handovers: u64,
    /// Bytes of records that came from others in the background.
    pub upkeep_pulled_bytes: u64,
    /// Bytes of records that went to others in the background.
    pub upkeep_pushed_bytes: u64,
    /// Records that replicas which should have been equal lacked.
    pub repairs: u64,
    /// Partitions compared with another replica.
    pub comparisons: u64,
    /// Whole rounds of comparisons with the other replicas; one in which there was nobody to compare with is none.
    pub repair_rounds: u64,
    /// Those of them in which replicas differed.
    pub repair_rounds_with_repairs: u64,
    /// How long the last of them took, in milliseconds.
    pub repair_round_ms: u64,
    /// Bytes a second that the background may move now.
    pub background_bytes_per_s: u64,
    /// The same in thousandths of its greatest rate.
    pub background_share_permille: u64,
    /// How often the background was slowed down, since clients' p99.9 came near the promise.
    pub background_cuts: u64,
    /// How often that did not help, so that clients' p99.9 was held to have another cause.
    pub background_excuses: u64,
    /// The p99.9 of clients' requests on this shard in the last second, as the background's pace is set by it.
    pub foreground_p999_us: u64,
    /// Where clients' time went since the start.
    pub stages: Stages,
    /// How far the background is with each kind of its work.
    pub progress: Progress,
    /// Places of the log that are damaged, until their segments are given back.
    pub damage: Vec<Damage>,
    /// What of that is not brought back: keys, partitions of which something is lost, and segments that the cleaner could not
    /// go through. 0: nothing is unknown any more.
    pub damage_unrepaired: u64,
    /// Segments that are kept as they are, since something live in them does not verify, or something of them is unknown.
    pub segments_quarantined: u64,
    /// Why this node takes no part in its cluster; of the shard with the control role.
    pub trouble: Option<String>,
}
