//! `gramme data stat`.

use std::process::ExitCode;

use gramme_core::base::ids::ShardIndex;
use serde_json::json;

use super::{DirArgs, log, open, progress};

/// Prints what the directory holds, by shard.
pub(super) fn run(args: &DirArgs) -> Result<ExitCode, String> {
    let directory = open(&args.dir)?;
    let bar = progress(0, "segments");
    let mut shards = Vec::new();
    for shard in 0..directory.shards() {
        bar.inc_length(super::log_segments(&directory, ShardIndex(shard)));
        shards.push(log::walk(&directory, ShardIndex(shard), || bar.inc(1))?);
    }
    bar.finish_and_clear();
    if args.json {
        let shards: Vec<_> = shards
            .iter()
            .map(|walked| {
                json!({
                    "segments": walked.segments,
                    "segments_in_use": walked.segments_in_use,
                    "file_bytes": walked.file_bytes,
                    "batches": walked.batches,
                    "records": walked.records,
                    "tombstones": walked.tombstones,
                    "record_bytes": walked.record_bytes,
                    "damaged_places": walked.places.len(),
                })
            })
            .collect();
        println!(
            "{}",
            json!({
                "node": directory.node_id().0,
                "partitions": directory.partitions(),
                "segment_bytes": directory.segment_bytes(),
                "block_bytes": directory.block_bytes(),
                "starts": directory.starts(),
                "shards": shards,
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("node           {:016x}", directory.node_id().0);
    println!("partitions     {}", directory.partitions());
    println!("segment bytes  {}", directory.segment_bytes());
    println!("starts         {}", directory.starts());
    println!();
    println!(
        "{:>5} {:>8} {:>6} {:>14} {:>10} {:>12} {:>11} {:>14} {:>7}",
        "shard",
        "segments",
        "in use",
        "file bytes",
        "batches",
        "records",
        "tombstones",
        "record bytes",
        "damaged"
    );
    for (shard, walked) in shards.iter().enumerate() {
        println!(
            "{shard:>5} {:>8} {:>6} {:>14} {:>10} {:>12} {:>11} {:>14} {:>7}",
            walked.segments,
            walked.segments_in_use,
            walked.file_bytes,
            walked.batches,
            walked.records,
            walked.tombstones,
            walked.record_bytes,
            walked.places.len()
        );
    }
    println!(
        "\nRecords count every version that the log still holds, not only the newest of each key."
    );
    Ok(ExitCode::SUCCESS)
}
