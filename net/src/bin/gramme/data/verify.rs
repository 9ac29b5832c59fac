//! `gramme data verify`.

use std::process::ExitCode;

use gramme_core::base::ids::ShardIndex;
use serde_json::json;

use super::{DirArgs, log, open, progress};
use crate::EXIT_FAILED;

/// Walks every shard, prints each place that does not verify.
pub(super) fn run(args: &DirArgs) -> Result<ExitCode, String> {
    let directory = open(&args.dir)?;
    let bar = progress(0, "segments");
    let (mut places, mut records, mut batches, mut torn_batches) = (Vec::new(), 0, 0, 0);
    for shard in 0..directory.shards() {
        bar.inc_length(super::log_segments(&directory, ShardIndex(shard)));
        let walked = log::walk(&directory, ShardIndex(shard), || bar.inc(1))?;
        records += walked.records;
        batches += walked.batches;
        torn_batches += walked.torn_batches;
        places.extend(walked.places.into_iter().map(|place| (shard, place)));
    }
    bar.finish_and_clear();
    if args.json {
        let places: Vec<_> = places
            .iter()
            .map(|(shard, place)| json!({ "shard": shard, "segment": place.segment.0, "offset": place.offset, "what": place.what }))
            .collect();
        let is_sound = places.is_empty();
        println!(
            "{}",
            json!({ "is_sound": is_sound, "records": records, "batches": batches, "torn_batches": torn_batches, "damage": places })
        );
    } else {
        for (shard, place) in &places {
            println!(
                "shard {shard} segment {:08x} byte {}: {}",
                place.segment.0, place.offset, place.what
            );
        }
        let torn = if torn_batches > 0 {
            format!(
                "; a torn tail of {torn_batches} batches that nobody was told of, which is normal after a crash"
            )
        } else {
            String::new()
        };
        println!(
            "{records} records in {batches} batches, {} damaged places{torn}",
            places.len()
        );
        if !places.is_empty() {
            println!(
                "What was there is unknown, not absent. The node serves on: reads of those keys fail until they are written again; or restore a backup."
            );
        }
    }
    Ok(if places.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    })
}
