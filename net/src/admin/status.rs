//! The node's status as JSON.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gramme_core::base::ids::NodeId;
use gramme_core::shard::ShardStatus;
use serde_json::{Map, Value, json};

use super::metrics::{METRICS, NETWORK, UNKNOWN};
use super::{Seen, Shared, health};

/// The document: what the node is, how it does, and each shard's counters by their Prometheus names without `gramme_`
/// and `_total`, and what its stages took; null for a shard that does not answer.
pub(super) fn json(
    shared: &Shared,
    node: Option<NodeId>,
    seen: Option<&Seen>,
    uptime: Duration,
) -> Value {
    let facts = &shared.facts;
    let network: Map<String, Value> = NETWORK
        .iter()
        .map(|(name, _, read)| {
            (
                name.trim_end_matches("_total").to_owned(),
                json!(read(&shared.network).load(Ordering::Relaxed)),
            )
        })
        .collect();
    let reasons = seen.map_or_else(
        || vec!["starting: the shards recover".to_owned()],
        health::reasons,
    );
    let notes = seen.map(health::notes).unwrap_or_default();
    let hints_pending: u64 = seen
        .map_or(&[][..], |seen| &seen.shards)
        .iter()
        .flatten()
        .map(|status| status.hints_pending)
        .sum();
    let shards: Vec<Value> = seen
        .map_or(&[][..], |seen| &seen.shards)
        .iter()
        .map(|status| {
            status.as_ref().map_or(Value::Null, |status| {
                let counters: Map<String, Value> = METRICS
                    .iter()
                    .map(|(name, _, read)| {
                        (
                            name.trim_end_matches("_total").to_owned(),
                            known(read(status)),
                        )
                    })
                    .collect();
                let damage: Vec<Value> = status
                    .damage
                    .iter()
                    .map(|place| json!({ "segment": place.segment.0, "offset": place.offset }))
                    .collect();
                json!({ "counters": counters, "damage": damage, "latency": latency(status) })
            })
        })
        .collect();
    json!({
        "node": node.map(|node| node.0),
        "name": facts.name,
        "zone": facts.zone,
        "version": env!("CARGO_PKG_VERSION"),
        "resp": facts.addresses.resp.to_string(),
        "native": facts.addresses.native.to_string(),
        "admin": facts.addresses.admin.to_string(),
        "uptime_seconds": uptime.as_secs_f64(),
        "is_serving": reasons.is_empty(),
        "reasons": reasons,
        "notes": notes,
        "network": network,
        "hints_pending": hints_pending,
        "shards": shards,
    })
}

/// Of each stage since the start: how many requests were in it, and how long, in microseconds.
fn latency(status: &ShardStatus) -> Value {
    let stages = status.stages.iter().map(|(stage, times)| {
        let us = |of_100_000| times.percentile_ns(of_100_000) / 1_000;
        let told = json!({
            "requests": times.requests(),
            "p50_us": us(50_000),
            "p99_us": us(99_000),
            "p999_us": us(99_900),
        });
        (stage.name().to_owned(), told)
    });
    Value::Object(stages.collect())
}

/// A number, or null where nobody knows it.
fn known(value: u64) -> Value {
    if value == UNKNOWN {
        Value::Null
    } else {
        json!(value)
    }
}

/// The cluster's part of the page: members, epoch, what this node holds and what moves; null where there is none.
pub(super) fn add_cluster(page: &mut Value, cluster: Option<Value>) {
    let cluster = cluster.unwrap_or_default();
    let of_me = cluster["members"]
        .as_array()
        .and_then(|members| members.iter().find(|member| member["is_me"] == true))
        .cloned()
        .unwrap_or_default();
    page["ring_epoch"] = cluster["epoch"].clone();
    page["members"] = cluster["members"].clone();
    page["partitions_held"] = of_me["held"].clone();
    page["transfers"] = json!({
        "gaining": cluster["gaining"],
        "draining": cluster["draining"],
    });
    page["cluster"] = cluster;
}
