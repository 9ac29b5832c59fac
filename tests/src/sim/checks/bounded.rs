//! Nothing grows beyond what the configuration says: what a shard has in memory, and what it lets wait. And when all is
//! over it has nothing more to do for anybody.

use gramme_core::shard::{Shard, ShardStatus};

use crate::sim::node::PARTITIONS;
use crate::sim::swarm::Swarm;

/// Buffers of the log that may be on their way to the disk, beside what is kept for reading (`replica/open.rs`).
const BACKLOG_BUFFERS: u64 = 32;
/// What an index costs at most, without the space that growing keeps for every partition.
const INDEX_KEY_BYTES: u64 = 32;
const INDEX_EMPTY_BYTES: u64 = 16 << 10;

/// What of a shard is out of bounds.
pub fn check(shard: &Shard, swarm: &Swarm) -> Vec<String> {
    let status = shard.status();
    let buffer_bytes = u64::from(swarm.segment_bytes / 4).min(1 << 20);
    let half_bytes = swarm.memory_bytes / 2;
    // Of each key its object, a hint, and a mark of each partition.
    let entries = 3 * swarm.keys as u64 + 64;
    let lost_marks = if swarm.has_liars() {
        u64::from(PARTITIONS)
    } else {
        0
    };
    let bounds = [
        (
            "bytes of the log's tail",
            status.tail_bytes,
            half_bytes.max(4 * buffer_bytes) + (BACKLOG_BUFFERS + 1) * buffer_bytes,
        ),
        ("bytes of the cache", status.cache_bytes, half_bytes),
        (
            "bytes of the index",
            status.index_bytes,
            INDEX_EMPTY_BYTES + entries * INDEX_KEY_BYTES,
        ),
        ("bytes of the log", status.used_bytes, status.capacity_bytes),
        (
            "requests that wait",
            status.requests_waiting,
            // The one after which times are ahead of what is promised did not know it: one of the open batch, and of each of
            // the two that may be on their way.
            u64::from(swarm.requests_max) + 3,
        ),
        // One for each key and node; and once more where it lies in the log and a newer one found no room there. Of a lost
        // record with a hint's token nobody can tell at once whether it was a partition's mark.
        (
            "hints",
            status.hints_pending,
            2 * swarm.keys as u64 * swarm.nodes as u64 + lost_marks,
        ),
    ];
    let beyond = bounds.iter().filter(|(_, is, most)| is > most);
    beyond
        .map(|(what, is, most)| format!("{is} {what}, and {most} are the most"))
        .collect()
}

/// What a shard still has to do though nobody asks for anything any more.
pub fn at_rest(shard: &Shard, swarm: &Swarm) -> Vec<String> {
    let ShardStatus {
        requests_waiting,
        hints_pending,
        ..
    } = shard.status();
    let left = [
        ("requests under way", shard.requests_under_way() as u64),
        ("requests that wait", requests_waiting),
        ("hints to deliver", hints_pending),
    ];
    // A hint of which what was kept rotted waits for half a minute before it is given up.
    let kinds = if swarm.has_liars() { 2 } else { 3 };
    let left = left.iter().take(kinds).filter(|(_, count)| *count > 0);
    left.map(|(what, count)| format!("{count} {what} when all is over"))
        .collect()
}
